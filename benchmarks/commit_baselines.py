"""Ways of keeping the state that are not ours: what `commit.py` compares the toolkit's tiers with.

Each is used as its documentation shows. What is on disk has been flushed when it counts as complete.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from commit_arm import ArmKind, Saved, TrainingState
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict


class MemoryCopy:
    """One copy of the bytes to other memory: no commit can be quicker. A yardstick."""

    def __init__(self, folder: Path):
        self._copy: torch.Tensor | None = None

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        begun = time.monotonic()
        if self._copy is None:
            self._copy = torch.empty_like(state.everything)
        self._copy.copy_(state.everything)
        took_s = time.monotonic() - begun
        return Saved(stall_s=took_s, complete_s=took_s, size_bytes=self._copy.nbytes)

    def restore(self, state: TrainingState) -> float:
        begun = time.monotonic()
        assert self._copy is not None
        state.everything.copy_(self._copy)
        return time.monotonic() - begun

    def close(self) -> None:
        self._copy = None


class SynchronousSave:
    """`torch.save`, flushed to disk and renamed, while training stands."""

    def __init__(self, folder: Path):
        self._folder, self._path = folder, folder / "state.pt"

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        begun = time.monotonic()
        aside = self._path.with_suffix(".writing")
        with aside.open("wb") as file:
            torch.save({"model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self._path)
        _flush_folder(self._folder)
        took_s = time.monotonic() - begun
        return Saved(stall_s=took_s, complete_s=took_s, size_bytes=_bytes_in(self._folder))

    def restore(self, state: TrainingState) -> float:
        _forget(self._folder)
        begun = time.monotonic()
        found = torch.load(self._path, weights_only=True)
        state.model.load_state_dict(found["model"])
        state.optimizer.load_state_dict(found["optimizer"])
        return time.monotonic() - begun

    def close(self) -> None:
        pass


class DistributedCheckpoint:
    """`torch.distributed.checkpoint.async_save`: a copy aside, then a thread that writes. One process, no group."""

    def __init__(self, folder: Path):
        self._folder, self._count = folder, 0

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        self._count += 1
        path = self._folder / str(self._count)
        begun = time.monotonic()
        model, optimizer = get_state_dict(state.model, state.optimizer)
        future = dcp.async_save({"model": model, "optimizer": optimizer}, checkpoint_id=path, no_dist=True)
        assert isinstance(future, Future)
        ended: list[float] = []
        future.add_done_callback(lambda _: ended.append(time.monotonic()))
        stall_s = time.monotonic() - begun
        while not ended:
            meanwhile()
        future.result()
        shutil.rmtree(self._folder / str(self._count - 1), ignore_errors=True)
        return Saved(stall_s=stall_s, complete_s=ended[0] - begun, size_bytes=_bytes_in(path))

    def restore(self, state: TrainingState) -> float:
        path = self._folder / str(self._count)
        _forget(path)
        begun = time.monotonic()
        model, optimizer = get_state_dict(state.model, state.optimizer)
        dcp.load({"model": model, "optimizer": optimizer}, checkpoint_id=path, no_dist=True)
        set_state_dict(state.model, state.optimizer, model_state_dict=model, optim_state_dict=optimizer)
        return time.monotonic() - begun

    def close(self) -> None:
        pass


class HorovodCommit:
    """`TorchState.commit` of elastic Horovod: a deep copy in the worker's own memory, gone with the worker."""

    def __init__(self, folder: Path):
        import horovod.torch as hvd

        self._hvd = hvd
        hvd.init()
        self._state: hvd.elastic.TorchState | None = None

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        if self._state is None:
            self._state = self._hvd.elastic.TorchState(model=state.model, optimizer=state.optimizer, step=0)
        begun = time.monotonic()
        self._state.commit()
        took_s = time.monotonic() - begun
        return Saved(stall_s=took_s, complete_s=took_s, size_bytes=state.size_bytes)

    def restore(self, state: TrainingState) -> float:
        assert self._state is not None
        begun = time.monotonic()
        self._state.restore()
        return time.monotonic() - begun

    def close(self) -> None:
        self._hvd.shutdown()


BASELINES = (
    ArmKind("one memory copy", MemoryCopy, flat=True),
    ArmKind("torch.save", SynchronousSave),
    ArmKind("DCP async_save", DistributedCheckpoint),
    ArmKind("Horovod commit", HorovodCommit),
)


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _flush_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _forget(folder: Path) -> None:
    """Put the files out of the page cache: whoever starts again on another day does not find them there."""
    for path in filter(Path.is_file, folder.rglob("*")):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
