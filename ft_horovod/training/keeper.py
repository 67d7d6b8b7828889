"""When the state is committed to disk, and how far the run was when it is read back.

This module knows the cadence and the metadata; `commit.disk` knows files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import msgspec
import torch

from ft_horovod.commit.disk import DiskCommits, Part, Tensors
from ft_horovod.core.config import CommitConfig
from ft_horovod.core.errors import CommitError
from ft_horovod.core.trace import CommitFailed, CommitWritten
from ft_horovod.membership.protocol import Progress
from ft_horovod.tracefile import TraceFile


class Keeper:
    """Commits of one worker; only the leader's are written."""

    def __init__(
        self, config: CommitConfig, disk: DiskCommits, trace: TraceFile, beat: Callable[[], None], identity: str
    ):
        """`identity` names what the state depends on besides its step: a commit of another run is refused."""
        self._config, self._disk, self._trace, self._beat, self._identity = config, disk, trace, beat, identity
        self._last_at = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether the interval has passed and the last commit is written."""
        passed = time.monotonic() - self._last_at >= self._config.every_s
        return bool(self._config.every_s) and passed and not self._disk.busy

    def begin(self, progress: Progress, part: Part, state: torch.Tensor, named: Tensors) -> None:
        """Start a commit in the background, unless this part's last one is still being written."""
        if self._disk.busy:
            return
        self._last_at = time.monotonic()
        metadata = {"progress": msgspec.json.encode(progress).decode(), "identity": self._identity}
        stalled: list[float] = []

        def done(write_s: float, size_bytes: int, problem: OSError | None) -> None:
            if problem is not None:
                self._trace.emit(CommitFailed, step=progress.step, problem=str(problem))
                return
            self._trace.emit(
                CommitWritten,
                step=progress.step,
                tier="disk",
                stall_s=stalled[0] if stalled else 0.0,
                write_s=write_s,
                size_bytes=size_bytes,
                path=part.name(progress.step),
            )

        stalled.append(self._disk.begin(progress.step, part, state, named, metadata, done))

    def commit_now(self, progress: Progress, part: Part, state: torch.Tensor, named: Tensors) -> None:
        """Commit and wait until it is safe, or reported as failed."""
        self._disk.wait(self._beat)
        self.begin(progress, part, state, named)
        self._disk.wait(self._beat)

    def newest(self) -> Progress | None:
        """How far the newest commit is that is whole; None when there is none. Damaged ones are reported."""
        for step in reversed(self._disk.steps()):
            try:
                return self._progress(self._disk.read(step)[0], step)
            except CommitError as error:
                self._trace.emit(CommitFailed, step=step, problem=str(error))
        return None

    def load(self, step: int, into: Tensors) -> None:
        """Read the commit of a step. Raises CommitError."""
        self._disk.load(step, into)

    def _progress(self, metadata: Mapping[str, str], step: int) -> Progress:
        if metadata.get("identity") != self._identity:
            raise CommitError(f"step {step}: a commit of another run: {metadata.get('identity')}")
        try:
            return msgspec.json.decode(metadata["progress"], type=Progress)
        except (KeyError, msgspec.DecodeError) as error:
            raise CommitError(f"step {step}: its metadata cannot be read") from error
