"""The toolkit's tiers as `commit.py` compares them: host memory and disk, used as a worker uses them.

Live peers need no entry: after a step all of them hold the state, and nothing is copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from commit_arm import ArmKind, Saved, TrainingState

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.host_files import Place as HostPlace
from ft_horovod.commit.host_memory import HostMemory, load
from ft_horovod.commit.host_memory_folder import find, remove
from ft_horovod.commit.host_slices import Meta
from ft_horovod.commit.manifest import Stamp
from ft_horovod.commit.names import Place
from ft_horovod.commit.writer import Outcome

_HOST = "bench"


class HostMemoryTier:
    """A copy to host memory while the next step computes; that step's update waits for its end."""

    def __init__(self, folder: Path):
        self._run, self._step, self._whole_at = folder.parent.name, 0, 0.0
        self._memory: HostMemory | None = None

    def _at(self, moment: str) -> None:
        if moment == "whole":
            self._whole_at = time.monotonic()

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        begun = time.monotonic()
        size = state.everything.numel()
        if self._memory is None:
            self._memory = HostMemory(HostPlace(self._run, _HOST, 0), size, at=self._at)
        self._step += 1
        meta = Meta(act=self._step, step=self._step, begin=0, end=size, total=size, identity="bench", progress=b"{}")
        self._memory.begin(meta, state.everything)
        stall_s = time.monotonic() - begun

        def settle() -> None:
            nonlocal stall_s
            assert self._memory is not None
            stall_s += self._memory.settle()

        state.before_update = settle
        meanwhile()
        state.before_update = lambda: None
        return Saved(stall_s=stall_s, complete_s=self._whole_at - begun, size_bytes=state.everything.nbytes)

    def restore(self, state: TrainingState) -> float:
        begun = time.monotonic()
        newest = find(Path("/dev/shm"), self._run, _HOST)[:1]
        load(newest, state.everything)
        return time.monotonic() - begun

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
        remove(Path("/dev/shm"), self._run)


class DiskTier:
    """A shard with a manifest, copied aside and written in the background."""

    def __init__(self, folder: Path):
        self._commits = DiskCommits(folder / "commits", Retention(1))
        self._step = 0

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        begun, finished = time.monotonic(), threading.Event()
        self._step += 1
        outcomes: list[tuple[float, Outcome]] = []

        def done(write_s: float, outcome: Outcome) -> None:
            outcomes.append((write_s, outcome))
            finished.set()

        stamp = Stamp(self._step, b"{}", "bench", 0)
        self._commits.begin(stamp, Place.alone(0, 1), state.everything, _named(state.everything), done)
        stall_s = time.monotonic() - begun
        while not finished.is_set():
            meanwhile()
        (write_s, outcome), *_ = outcomes
        if outcome.problem is not None:
            raise RuntimeError(outcome.problem)
        return Saved(stall_s=stall_s, complete_s=write_s, size_bytes=outcome.size_bytes)

    def restore(self, state: TrainingState) -> float:
        begun = time.monotonic()
        self._commits.load(self._commits.found()[0], _named(state.everything))
        return time.monotonic() - begun

    def close(self) -> None:
        pass


def _named(everything: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"everything": everything}


TIERS = (
    ArmKind("ours: host memory", HostMemoryTier, flat=True),
    ArmKind("ours: disk", DiskTier, flat=True),
)
