"""What came of a job, from what its trace says. Knows events and exit codes, no processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from ft_horovod.core.errors import EXIT_BUG, EXIT_FENCED, EXIT_INTERRUPTED, EXIT_OK, EXIT_REQUEUE
from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    Event,
    TrainingFinished,
    TrainingStarted,
    TrainingStopped,
    WorkerFailed,
)
from ft_horovod.runfolder import RunFolder

E = TypeVar("E", bound=Event)

_LOG_LINES = 12


def every(events: Sequence[AnyEvent], kind: type[E]) -> Iterable[E]:
    """The events of one kind."""
    return (event for event in events if isinstance(event, kind))


def have(events: Sequence[AnyEvent], kind: type[AnyEvent]) -> bool:
    """Whether there is one of this kind."""
    return any(True for _ in every(events, kind))


def failed_by_itself(events: Sequence[AnyEvent]) -> WorkerFailed | None:
    """The first worker that ended because of an error of its own."""
    own = (failed for failed in every(events, WorkerFailed) if failed.exit_code not in (EXIT_REQUEUE, EXIT_FENCED))
    return next(own, None)


def state_is_on_disk(events: Sequence[AnyEvent]) -> bool:
    """Whether the state a run ended with was committed to disk, so that no other copy of it is needed."""
    written = max((event.step for event in every(events, CommitWritten) if event.tier == "disk"), default=-1)
    ends = [event.step for event in events if isinstance(event, TrainingFinished | TrainingStopped)]
    return bool(ends) and written >= ends[-1]


def judge(events: Sequence[AnyEvent], folder: RunFolder, *, interrupted: bool, too_little: str) -> tuple[str, str, int]:
    """Outcome, message and exit code. `too_little`: what to say when the workers ended without a word."""
    resume = f"resume with: ft-horovod train --resume {folder.path}"
    if have(events, TrainingFinished):
        return "finished", "", EXIT_OK
    if interrupted:
        return "interrupted", resume, EXIT_INTERRUPTED
    failed = failed_by_itself(events)
    if failed is not None:
        return "failed", f"{failed.worker}: {failed.message}", failed.exit_code
    stopped = next(iter(every(events, TrainingStopped)), None)
    if stopped is not None:
        return "quorum_lost", f"{stopped.reason}; {resume}", EXIT_REQUEUE
    if have(events, TrainingStarted):
        return "quorum_lost", f"{too_little}; {resume}", EXIT_REQUEUE
    return "failed", f"the workers did not start: {_log_tail(folder)}", EXIT_BUG


def _log_tail(folder: RunFolder) -> str:
    lines = folder.launcher_log.read_text(errors="replace").strip().splitlines()[1:]
    return f"see {folder.logs}" + "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
