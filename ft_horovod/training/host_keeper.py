"""One worker's part in the commits to host memory: which slice it copies, when its copy is whole, what a resumed run
finds.

The members of a group that share a host share the copying of their stage's state; so every host holds all of each
stage it has a member of. A copy begins right after an update, goes on while the next step computes, and ends before
the next update. A new one begins only when all members' last ones are whole: until then the older ones are left alone,
on every host. This module knows the order of things; `commit.host_memory` knows files.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import msgspec
import torch

from ft_horovod.commit.host_files import SHM, Place, mapped, needed_bytes
from ft_horovod.commit.host_memory import HostMemory, load
from ft_horovod.commit.host_memory_folder import find, room
from ft_horovod.commit.host_slices import Meta, Slice, newest_whole
from ft_horovod.core.errors import CommitError
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import View
from ft_horovod.core.trace import CommitFailed, CommitWritten
from ft_horovod.membership.protocol import Progress
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.cadence import Cadence
from ft_horovod.training.keeper import Origin

_TELL_S = 10.0


class HostKeeper:
    """Host memory as one worker uses it; `on` is False when it is switched off or there is no room."""

    def __init__(self, place: Place, origin: Origin, cadence: Cadence, trace: TraceFile, *, on: bool = True):
        self._place, self._identity, self._cadence, self._trace, self.on = place, origin.identity, cadence, trace, on
        self._memory: HostMemory | None = None
        self._opening: threading.Thread | None = None
        self._elements = 0
        self._share, self._stages = (0, 1), 1
        self._epoch, self._leads = 0, False
        self._begun = False  # a copy, in this group
        self._chosen: tuple[Slice, ...] = ()
        self._stall_s, self._untold_s, self._untold, self._told_at = 0.0, 0.0, 0, time.monotonic()

    def enter(self, view: View, me: WorkerId, state: torch.Tensor) -> None:
        """A new group holds; `state` is this member's flat state of its stage."""
        layout = view.layout
        self._begun = False
        self._epoch, self._leads, self._stages = view.epoch, me == layout.members[0], len(layout.groups)
        if not self.on:
            return
        group = next(group.members for group in layout.groups if me in group.members)
        here = [member for member in group if member.host == me.host]
        self._share = (here.index(me), len(here))
        elements = -(-len(state) // len(here))
        if elements == self._elements:
            return
        total = sum(needed_bytes(elements) for member in layout.members if member.host == me.host)
        problem = room(total, SHM, self._place.run_name)
        if problem is not None:
            self._give_up(problem)
            return
        self._finish_opening()
        old, self._memory, self._elements = self._memory, None, elements
        self._opening = threading.Thread(target=self._open, args=(old, elements), name="host-memory-open", daemon=True)
        self._opening.start()

    def _open(self, old: HostMemory | None, elements: int) -> None:
        """Take the memory, which takes a while: the system clears it."""
        if old is not None:
            old.close()
        keep = next((one for one in self._chosen if old is None and one.slot == self._place.slot), None)
        try:
            self._memory = HostMemory(self._place, elements, keep=keep)
        except CommitError as error:
            self._give_up(str(error))

    def _finish_opening(self) -> None:
        if self._opening is not None:
            self._opening.join()
            self._opening = None

    def _give_up(self, problem: str) -> None:
        self.on = False
        self._trace.emit(CommitFailed, step=0, problem=f"host memory is not used: {problem}")

    def due(self, step: int, step_s: float) -> bool:
        """Whether it is time for a copy, when a step takes `step_s`."""
        return self.on and self._cadence.due(step, step_s)

    @property
    def ready(self) -> bool:
        """Whether nothing speaks against a new copy as far as this worker knows; one without memory has no say."""
        memory = self._memory
        return not self.on or (memory is not None and memory.done)

    def begin(self, progress: Progress, stage: int, state: torch.Tensor) -> None:
        """Start copying this worker's slice; `state` must not change before `settle`.

        All members of a group do this together, when all are ready: so their last copies, if this group made them, are
        whole.
        """
        if not self.on or self._memory is None:
            return
        begun = time.monotonic()
        if self._begun:
            self._memory.confirm()
        self._begun = True
        index, of = self._share
        begin, end = (len(state) * part // of for part in (index, index + 1))
        meta = Meta(
            act=progress.act,
            step=progress.step,
            begin=begin,
            end=end,
            total=len(state),
            identity=self._identity,
            progress=msgspec.json.encode(progress),
            stage=stage,
            stages=self._stages,
            origin=(progress.launch, self._epoch),
        )
        self._memory.begin(meta, state[begin:end])
        self._stall_s += time.monotonic() - begun
        self._cadence.begun(progress.step)
        self._tell(progress.step, 4 * len(state))

    def _tell(self, step: int, size_bytes: int) -> None:
        """What the last copy cost; the trace hears of one now and then, as there may be one a step."""
        stall_s, self._stall_s = self._stall_s, 0.0
        self._cadence.measured(stall_s, stall_s)
        self._untold_s += stall_s
        self._untold += 1
        if self._leads and time.monotonic() - self._told_at > _TELL_S:
            self._trace.emit(
                CommitWritten,
                step=step,
                tier="host_memory",
                stall_s=self._untold_s,
                write_s=self._untold_s,
                size_bytes=size_bytes,
                count=self._untold,
            )
            self._told_at, self._untold_s, self._untold = time.monotonic(), 0.0, 0

    def settle(self, beat: Callable[[], None]) -> None:
        """The state is about to change: wait until it is copied."""
        memory = self._memory
        if memory is None or memory.done:
            return
        self._stall_s += memory.settle(beat)
        if memory.error is not None:
            self._give_up(str(memory.error))

    def remove(self) -> None:
        """The run is over, and its state is safe elsewhere."""
        self._finish_opening()
        self.on = False
        for path in (self._place.path.with_name(self._place.path.name + aside) for aside in ("", "~", "~~")):
            with contextlib.suppress(OSError):
                path.unlink()

    # -- reading -------------------------------------------------------------------------------------------------

    def newest(self, stages: int) -> Progress | None:
        """How far the newest state is that this host holds all `stages` of, each byte checked; None without one."""
        if not self.on:
            return None
        slices = find(SHM, self._place.run_name, self._place.host)
        while chosen := newest_whole(slices, self._identity):
            damaged = [one for one in chosen if not _sound(one)]
            if not damaged and chosen[0].meta.stages == stages:
                self._chosen = chosen
                return msgspec.json.decode(chosen[0].meta.progress, type=Progress)
            slices = [one for one in slices if one not in (damaged or chosen)]
        return None

    def load(self, stage: int, into: torch.Tensor) -> None:
        """Copy what `newest` found of a stage into its flat state. Raises CommitError."""
        load([one for one in self._chosen if one.meta.stage == stage], into)


def _sound(one: Slice) -> bool:
    try:
        mapped(one)
    except CommitError:
        return False
    return True
