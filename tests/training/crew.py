"""Whole trainers in one process: a thread each, over the in-memory membership, struck by a fault schedule."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.host_files import Place as HostPlace
from ft_horovod.core.commit_policy import parse_policy
from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import Dismissed, QuorumLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.schedule import Fault, FaultSchedule, PlannedFault, resolve
from ft_horovod.core.trace import AnyEvent
from ft_horovod.membership.board import Board, Pulse
from ft_horovod.membership.memory import Hub, Killed, MemoryMembership
from ft_horovod.membership.memory_links import MemoryLinks
from ft_horovod.status.follow import read_trace
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.acts import Acts, Outfit
from ft_horovod.training.cadence import Cadence
from ft_horovod.training.data import open_data
from ft_horovod.training.flat import FlatModel
from ft_horovod.training.host_keeper import HostKeeper
from ft_horovod.training.keeper import Keeper, Origin
from ft_horovod.training.models import build_model
from ft_horovod.training.stages.work import StageWork
from ft_horovod.training.step import StepWork
from ft_horovod.training.trainer import Surroundings, Trainer
from ft_horovod.training.wishes import Wishes
from ft_horovod.training.work import SignsOfLife, Work

_LIMIT_S = 60.0
_MTBF_S = 1e6
_BUILDING = threading.Lock()  # initial values come from the process's one generator


@dataclass
class End:
    """How one worker ended, and the state it ended with."""

    ending: str
    acts: Acts | None = None


@dataclass
class Crew:
    """One run of `config`. `faults` name workers by number; kills, leaves and joins are understood."""

    config: RunConfig
    folder: Path
    faults: Sequence[Fault] = ()
    processors: int = 0
    ends: dict[str, End] = field(default_factory=dict)

    def run(self) -> Crew:
        """To the end of every thread. Raises AssertionError when one does not come to it."""
        self.folder.mkdir(exist_ok=True)
        layout = self.config.layout
        names = [WorkerId("here", slot) for slot in range(layout.workers + layout.spares)]
        schedule = FaultSchedule(version=1, faults=tuple(self.faults))
        self._planned = resolve(schedule, len(names), stages=layout.stages, steps=self.config.steps)
        self._board = Board(self.folder / "board")
        self._layouts: list[Layout] = []
        self._hub = Hub(names, start=self._start)
        self._threads: list[threading.Thread] = []
        for name in names:
            self._start(name)
        give_up = time.monotonic() + _LIMIT_S
        while stuck := [thread.name for thread in self._threads if thread.is_alive()]:
            assert time.monotonic() < give_up, f"do not end: {stuck}"
            time.sleep(0.01)
        return self

    @property
    def events(self) -> list[AnyEvent]:
        return read_trace(self.folder)

    @property
    def finished(self) -> dict[str, Acts]:
        """The states of those who took the last step; a spare that was never needed has none."""
        ended = {who: end.acts for who, end in self.ends.items() if end.ending == "finished"}
        members = {str(worker) for worker in self._layouts[-1].members}
        return {who: acts for who, acts in ended.items() if acts and who in members}

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights by name, of which all who hold a stage have the same, bit for bit."""
        assert len({acts.weights_sha256 for acts in self.finished.values()}) == 1
        layout = self._layouts[-1]
        found: dict[str, torch.Tensor] = {}
        for group in layout.groups:
            acts = self.finished[str(group.leader)]
            found |= acts._work.named(group.stage, acts.progress.costs)
        return {name: tensor.clone() for name, tensor in found.items() if not name.startswith("momentum.")}

    def _start(self, me: WorkerId) -> None:
        thread = threading.Thread(target=self._live, args=(me,), name=str(me), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _live(self, me: WorkerId) -> None:
        acts: Acts | None = None
        try:
            torch.set_num_threads(1)
            trainer, acts = self._equip(me)
            ending: str = trainer.run()
            trainer._membership.close()
        except Killed:
            ending = "killed"
        except Dismissed:
            ending = "dismissed"
        except QuorumLost as error:
            ending = f"quorum lost: {error}"
        except Exception:  # noqa: BLE001  # the test reads what went wrong
            ending = traceback.format_exc()
            self._hub.kill(me)
        self.ends[str(me)] = End(ending, acts)

    def _equip(self, me: WorkerId) -> tuple[Trainer, Acts]:
        config, membership = self.config, MemoryMembership(self._hub, me)
        trace, pulse = TraceFile(self.folder, str(me)), Pulse(self._board, me.slot, me.incarnation)
        data = open_data(config.data, config.seed)
        disk = DiskCommits(self.folder / "commits", Retention(config.commit.keep, config.commit.keep_s))
        policy, origin = parse_policy(config.commit.policy), Origin("a test", config.seed)
        keeper = Keeper(Cadence(policy, "disk", _MTBF_S), disk, trace, pulse.beat, origin)
        place = HostPlace(f"{self.folder.name}-{self.folder.stat().st_ino}", me.host, me.slot)
        on = not isinstance(policy.memory, str)
        memory = HostKeeper(place, origin, Cadence(policy, "memory", _MTBF_S), trace, on=on)
        wishes = Wishes(config.layout, membership.newcomers_ready, lambda: membership.inviting)
        signs = SignsOfLife(pulse, pulse.beat)

        def build() -> nn.Module:
            with _BUILDING:
                return build_model(config.model, data.classes, data.channels, config.seed).train()

        work: Work = StepWork(config, FlatModel(build()), data, membership, signs)
        if config.layout.stages > 1:
            links = MemoryLinks(self._hub, membership, standby=config.layout.standby)
            work = StageWork(config, build, data, membership, links, signs)
        struck = _Struck(self._hub, me, self._planned, wishes)
        outfit = Outfit(
            trace, pulse, keeper, memory, wishes, struck.at_step, broken=lambda: membership.broken_at is not None
        )
        acts = Acts(config, work, len(data.test), outfit)
        around = Surroundings(
            trace=trace,
            pulse=pulse,
            last_seen=dict,
            hung=tuple,
            on_layout=lambda layout, _: self._layouts.append(layout),
            kills=lambda number, role: any(f.kind == "kill" and f.worker == number for f in self._planned),
            stand_by_beat=pulse.beat,
            processors=self.processors,
        )
        if me.incarnation == 0:
            acts.resume()
        struck.trainer = Trainer(config, membership, acts, around)
        return struck.trainer, acts


class _Struck:
    """Carries out what the schedule has for one worker, in its thread or at a random moment of the step."""

    def __init__(self, hub: Hub, me: WorkerId, planned: Sequence[PlannedFault], wishes: Wishes):
        self._hub, self._me, self._wishes = hub, me, wishes
        self._mine = [
            fault for fault in planned if me.incarnation == 0 and (fault.worker == me.slot or fault.kind == "join")
        ]
        self.trainer: Trainer | None = None

    def at_step(self, step: int, typical_s: float) -> None:
        for fault in [fault for fault in self._mine if fault.step == step]:
            self._mine.remove(fault)
            if fault.kind == "kill" and fault.within:
                timer = threading.Timer(fault.within * typical_s, self._hub.kill, [self._me])
                timer.daemon = True
                timer.start()
            elif fault.kind == "kill":
                self._hub.kill(self._me)
                raise Killed(str(self._me))
            elif fault.kind == "leave":
                assert self.trainer is not None
                self.trainer.leaving = True
            elif fault.kind == "join":
                self._wishes.grow()
