"""When the state is committed to disk, and how far the run was when it is read back.

This module knows the cadence, the metadata and what the trace is told; `commit.disk` knows files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import torch

from ft_horovod.commit import folder
from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Found
from ft_horovod.commit.manifest import Stamp
from ft_horovod.commit.names import Place
from ft_horovod.commit.shards import Tensors
from ft_horovod.commit.writer import Outcome
from ft_horovod.core.errors import CommitError
from ft_horovod.core.trace import CommitFailed, CommitWritten
from ft_horovod.membership.protocol import Progress
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.cadence import Cadence


class Origin(NamedTuple):
    """What a state depends on besides its step: a commit of another run is refused."""

    identity: str
    seed: int


class Keeper:
    """One worker's part in the commits of a run."""

    def __init__(self, cadence: Cadence, disk: DiskCommits, trace: TraceFile, beat: Callable[[], None], origin: Origin):
        self._cadence, self._disk, self._trace, self._beat, self._origin = cadence, disk, trace, beat, origin
        self._last_step: int | None = None  # of the commit whose being late has not been told yet
        self._chosen: Found | None = None
        self._damaged: list[tuple[int, str]] = []

    def due(self, step: int, step_s: float) -> bool:
        """Whether the interval has passed and the last commit is written; that one is skipped is told once."""
        if not self._cadence.due(step, step_s):
            return False
        if self._disk.busy and self._last_step is not None:
            self._fail(step, f"skipped: the commit of step {self._last_step} is still being written")
            self._last_step = None
        return not self._disk.busy

    def begin(self, progress: Progress, place: Place, state: torch.Tensor, named: Tensors) -> None:
        """Start a commit in the background, unless this worker's part of the last one is still being written."""
        if self._disk.busy:
            return
        self._last_step = progress.step
        self._cadence.begun(progress.step)
        stamp = Stamp(progress.step, msgspec.json.encode(progress), *self._origin)

        def done(write_s: float, outcome: Outcome) -> None:
            if outcome.problem is not None:
                self._fail(progress.step, outcome.problem)
                return
            self._cadence.measured(outcome.stall_s, write_s)
            if place.leads:
                self._trace.emit(
                    CommitWritten,
                    step=progress.step,
                    tier="disk",
                    stall_s=outcome.stall_s,
                    write_s=write_s,
                    size_bytes=outcome.size_bytes,
                    path=f"{self._disk.folder.name}/{stamp.key.name}",
                )

        self._disk.begin(stamp, place, state, named, done)

    def commit_now(
        self, progress: Progress, place: Place, state: torch.Tensor, named: Tensors, broken: Callable[[], bool] | None
    ) -> None:
        """Commit and wait until it is safe, or reported as failed.

        Shards of others are not waited for any more once `broken` says that some were lost. None: that is so already,
        for the commit that is under way; those who take part in this one are all alive.
        """
        self._disk.wait(self._beat, broken or (lambda: True))
        self.begin(progress, place, state, named)
        self._disk.wait(self._beat, broken or (lambda: False))

    def finish(self) -> None:
        """Wait until what was begun is safe, or reported as failed."""
        self._disk.wait(self._beat)

    def newest(self, *, above: int = -1) -> Progress | None:
        """How far the newest commit of a step `above` this one is that is whole, every byte of it; None without one."""
        self._chosen, self._damaged = None, []
        try:
            commits = [found for found in self._disk.found() if found.key.step > above]
        except OSError as error:
            self._damaged.append((0, f"{self._disk.folder.name}: cannot be read: {error.strerror}"))
            return None
        for found in commits:
            try:
                folder.check(found)
                progress = self._progress(found)
            except CommitError as error:
                self._damaged.append((found.key.step, str(error)))
            else:
                self._chosen = found
                return progress
        return None

    def load(self, into: Tensors) -> None:
        """Read the commit that `newest` found. Raises CommitError."""
        if self._chosen is None:
            raise CommitError("no commit was found that could be loaded")
        self._disk.load(self._chosen, into)

    def take_over(self, step: int) -> None:
        """This worker leads from `step` on: it tells what was found damaged, and clears what is of later steps."""
        for damaged_step, problem in self._damaged:
            self._fail(damaged_step, problem)
        self._damaged = []
        with contextlib.suppress(OSError):  # a disk that fails must not stop training: commits will say so
            self._disk.clear_above(step, self._origin.identity)

    def _progress(self, found: Found) -> Progress:
        manifest = found.manifest
        if manifest is None or manifest.identity != self._origin.identity:
            raise CommitError(f"{found.path.name}: a commit of another run: {manifest and manifest.identity}")
        try:
            return msgspec.json.decode(manifest.progress, type=Progress)
        except msgspec.DecodeError as error:
            raise CommitError(f"{found.path.name}: its progress cannot be read: {error}") from error

    def _fail(self, step: int, problem: str) -> None:
        self._trace.emit(CommitFailed, step=step, problem=problem)
