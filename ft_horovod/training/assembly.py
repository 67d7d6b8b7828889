"""Puts a worker's parts together: model, data, membership, watch, faults, commits."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import torch
from torch import nn

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.host_files import Place
from ft_horovod.core.commit_interval import HOST_MTBF_S
from ft_horovod.core.commit_policy import parse_policy
from ft_horovod.core.config import RunConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.trace import HangDetected
from ft_horovod.membership.board import Pulse, Row
from ft_horovod.membership.horovod_ring import HorovodRing
from ft_horovod.membership.stage_links import StageLinks
from ft_horovod.membership.ulfm import UlfmMembership
from ft_horovod.membership.watch import Verdict, Watch
from ft_horovod.runfolder import RunFolder
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.acts import Acts, Outfit
from ft_horovod.training.cadence import Cadence
from ft_horovod.training.data import DataBundle, open_data
from ft_horovod.training.flat import FlatModel
from ft_horovod.training.host_keeper import HostKeeper
from ft_horovod.training.injector import Injector
from ft_horovod.training.keeper import Keeper, Origin
from ft_horovod.training.models import build_model
from ft_horovod.training.newcomers import Roster
from ft_horovod.training.stages.work import StageWork
from ft_horovod.training.step import StepWork
from ft_horovod.training.trainer import Surroundings, Trainer
from ft_horovod.training.wishes import Wishes
from ft_horovod.training.work import SignsOfLife, Work

_PATIENCE = 2 / 3  # of `watch.stall_s` for others' shards: at the end of a run the others wait meanwhile


class Assembly:
    """One worker, ready to run."""

    def __init__(
        self, config: RunConfig, folder: RunFolder, me: WorkerId, trace: TraceFile, pulse: Pulse, *, newcomer: bool
    ):
        self._config, self._me, self._trace, self._pulse = config, me, trace, pulse
        self._hung: list[str] = []
        self._slots, self._spare_step = 0, -1
        self._computes = False
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        links = StageLinks(me, standby=config.layout.standby) if config.layout.stages > 1 else None
        self.membership = UlfmMembership(
            me,
            pulse,
            links or HorovodRing(),
            command=[sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)],
            marks=folder.ready,
            newcomer=newcomer,
        )
        data = open_data(config.data, config.seed)
        retention = Retention(config.commit.keep, config.commit.keep_s)
        disk = DiskCommits(folder.commits, retention, _PATIENCE * config.watch.stall_s)
        origin = Origin(_identity(config, len(data.train)), config.seed)
        policy, mtbf_s = parse_policy(config.commit.policy), config.commit.mtbf_s or HOST_MTBF_S
        keeper = Keeper(Cadence(policy, "disk", mtbf_s), disk, trace, pulse.beat, origin)
        # Stages on several hosts: no host holds all of them, so such a run resumes from disk.
        in_memory = policy.memory != "off" and (config.layout.stages == 1 or config.launcher.hosts is None)
        storing = Cadence(policy, "memory", mtbf_s)
        memory = HostKeeper(Place(folder.name, me.host, me.slot), origin, storing, trace, on=in_memory)
        wishes = Wishes(config.layout, self.membership.newcomers_ready, lambda: self.membership.inviting)
        self._injector = Injector(folder.read_faults(), trace, str(me), wishes.grow)

        def broken() -> bool:
            return self.membership.broken_at is not None

        outfit = Outfit(trace, pulse, keeper, memory, wishes, self._injector.at_step, broken)
        work = self._work(data, links)
        work.warm_up()
        self.acts = Acts(config, work, len(data.test), outfit)
        if not newcomer:
            self.acts.resume()
        self._watch = Watch(pulse.board, me.slot, config.watch, self._on_kill)
        if config.watch.enabled:
            self._watch.start()

    def _work(self, data: DataBundle, links: StageLinks | None) -> Work:
        """The work of a step: the model split over stages when there are links between them, else in one piece."""
        config, device = self._config, _device(self._config)
        signs = SignsOfLife(self._pulse, self._beat)

        def build() -> nn.Module:
            return build_model(config.model, data.classes, data.channels, config.seed).to(device).train()

        if links is not None:
            return StageWork(config, build, data, self.membership, links, signs)
        return StepWork(config, FlatModel(build()), data, self.membership, signs)

    def trainer(self) -> Trainer:
        """The trainer of this worker."""
        around = Surroundings(
            trace=self._trace,
            pulse=self._pulse,
            last_seen=self._last_seen,
            hung=lambda: tuple(self._hung),
            on_layout=self._on_layout,
            kills=self._injector.kills,
            stand_by_beat=self._stand_by_beat,
            processors=0 if _device(self._config).type == "cuda" else os.cpu_count() or 1,
        )
        return Trainer(self._config, self.membership, self.acts, around)

    def final_weights(self) -> str | None:
        """Hash of the weights of a worker that took the last step; None for a spare."""
        return self.acts.weights_sha256 if self._computes else None

    def _beat(self) -> None:
        self._pulse.beat()
        self._injector.drag()

    def _stand_by_beat(self) -> None:
        """A spare takes no steps; it follows those of its host's members, so that faults by step find it as well."""
        self._pulse.beat()
        step = max(self._pulse.board.read(slot).step for slot in range(self._slots))
        for passed in range(self._spare_step + 1, step + 1):
            self._injector.at_step(passed, 0.0)
        self._spare_step = max(self._spare_step, step)

    def _on_layout(self, layout: Layout, roster: Roster) -> None:
        self._slots = 1 + max(worker.slot for worker in roster.everybody if worker.host == self._me.host)
        self._injector.be(roster.number(self._me), layout.role(self._me))
        self._computes = self._me in layout.members

    def _on_kill(self, verdict: Verdict, row: Row) -> None:
        stuck = WorkerId(self._me.host, verdict.slot, row.incarnation)
        self._hung.append(str(stuck))
        self._trace.emit(
            HangDetected,
            worker=str(stuck),
            silent_s=verdict.silent_s,
            limit_s=verdict.limit_s,
            phase=verdict.phase.name.lower(),
        )

    def _last_seen(self) -> Mapping[str, float]:
        """When each worker of this host was last alive, Unix seconds."""
        offset = time.time() - time.monotonic()
        rows = ((slot, self._pulse.board.read(slot)) for slot in range(self._slots))
        return {
            str(WorkerId(self._me.host, slot, row.incarnation)): offset + row.beat_at for slot, row in rows if row.pid
        }


def _device(config: RunConfig) -> torch.device:
    wanted = config.model.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda":
        local_rank = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK", "0"))
        return torch.device("cuda", local_rank % torch.cuda.device_count())
    return torch.device("cpu")


def _identity(config: RunConfig, samples: int) -> str:
    """What a state's meaning depends on besides its step."""
    data, model = config.data, config.model
    return f"{model.name} {model.norm}, {samples} samples of {data.name}, batch {data.batch_size}, seed {config.seed}"
