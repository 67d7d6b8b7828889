"""Events as lines of plain text: for logs, pipes and the foot of the live view.

Knows how to tell an event in one line. It does not know the state of the run.
"""

from __future__ import annotations

from ft_horovod.core.errors import EXIT_REQUEUE
from ft_horovod.core.trace import (
    AnyEvent,
    CommitFailed,
    CommitWritten,
    Evaluated,
    FailureRecovered,
    FaultInjected,
    HangDetected,
    NewcomerDismissed,
    Promoted,
    Restarted,
    RunFinished,
    RunStarted,
    SlowDetected,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    TrainingStopped,
    ViewAgreed,
    WorkerFailed,
    WorkerLeft,
    WorkerLost,
    WorkerStarted,
)
from ft_horovod.status.ledger import PHASES, phase_s
from ft_horovod.status.text import UNKNOWN, duration, milliseconds, one_line, parameters, plural, short_name, size

TIER_NAMES = {
    "peer": "in the peers",
    "peer_memory": "in peer memory",
    "host_memory": "in host memory",
    "disk": "on disk",
}
OUTCOMES = {
    "finished": "finished",
    "quorum_lost": "stopped: too few workers are left",
    "interrupted": "interrupted",
    "failed": "failed",
}


def plain_line(event: AnyEvent) -> str | None:
    """What happened, in one line without a time; None for what is not worth one."""
    match event:
        case StepFinished():
            loss = UNKNOWN if event.loss is None else f"{event.loss:.4f}"
            return f"step {event.step}: loss {loss}, {duration(event.step_s)}, {event.samples} samples"
        case WorkerStarted(late=False):
            return None
        case WorkerFailed(exit_code=code) if code == EXIT_REQUEUE:
            return None  # everybody says so, and TrainingStopped says why
        case (
            ViewAgreed()
            | Promoted()
            | WorkerStarted()
            | WorkerLeft()
            | NewcomerDismissed()
            | WorkerFailed()
            | SlowDetected()
        ):
            return _about_workers(event)
        case FaultInjected() | HangDetected() | WorkerLost() | FailureRecovered():
            return _about_failures(event)
        case CommitWritten() | CommitFailed():
            return _about_commits(event)
        case (
            RunStarted()
            | Restarted()
            | TrainingStarted()
            | Evaluated()
            | TrainingFinished()
            | TrainingStopped()
            | RunFinished()
        ):
            return _about_the_run(event)
        case _:
            return None


def recovered_line(event: FailureRecovered) -> str:
    """A recovery without its phases."""
    return f"recovered from {event.kind} of {short_name(event.worker)} in {duration(event.total_s)}"


def _about_the_run(
    event: RunStarted | Restarted | TrainingStarted | Evaluated | TrainingFinished | TrainingStopped | RunFinished,
) -> str:
    match event:
        case RunStarted():
            spares = f" and {plural(event.spares, 'spare')}" if event.spares else ""
            return (
                f"run {event.run}: {event.model} on {event.data}, {event.workers} workers{spares} by {event.launcher}"
            )
        case Restarted():
            return f"started again with {plural(event.workers, 'worker')}: {event.reason}"
        case TrainingStarted():
            verb = "goes on" if event.resumed else "begins"
            return f"training {verb} at step {event.step} of {event.steps}, {parameters(event.parameters)}"
        case Evaluated():
            return f"accuracy {event.accuracy * 100:.2f} % of {event.samples:,} after {event.step} steps"
        case TrainingFinished():
            samples = f"{event.samples:,} samples, {'each exactly' if event.samples_exact else 'NOT'} as planned"
            loss = UNKNOWN if event.final_loss is None else f"{event.final_loss:.4f}"
            return f"trained {plural(event.step, 'step')}: loss {loss}, {samples}"
        case TrainingStopped():
            return f"training stopped after {event.step} steps: {one_line(event.reason)}"
        case RunFinished():
            return f"run {OUTCOMES[event.outcome]}" + (f": {one_line(event.message)}" if event.message else "")


def _about_workers(
    event: ViewAgreed | Promoted | WorkerStarted | WorkerLeft | NewcomerDismissed | WorkerFailed | SlowDetected,
) -> str:
    match event:
        case ViewAgreed():
            sizes = f"{plural(len(event.layout.members), 'member')}, {plural(len(event.layout.spares), 'spare')}"
            return f"view {event.epoch} ({event.reason}) from step {event.step}: {sizes}"
        case Promoted():
            stead = short_name(event.instead_of)
            return f"{short_name(event.worker)} leads stage {event.stage} instead of {stead}"
        case WorkerStarted():
            return f"{short_name(event.worker)} has come (pid {event.pid})"
        case WorkerLeft():
            return f"{short_name(event.worker)} handed over and left at step {event.step}"
        case NewcomerDismissed():
            return f"{short_name(event.worker)} is not needed any more: {one_line(event.reason)}"
        case WorkerFailed():
            return f"{short_name(event.worker)} failed by itself (exit {event.exit_code}): {one_line(event.message)}"
        case SlowDetected():
            if event.factor <= 1:
                return f"{short_name(event.worker)} is as fast as its group again"
            return f"{short_name(event.worker)} is {event.factor:.1f} times slower than its group, and gets less to do"


def _about_failures(event: FaultInjected | HangDetected | WorkerLost | FailureRecovered) -> str:
    match event:
        case FaultInjected():
            span = f" for {duration(event.duration_s)}" if event.duration_s is not None else ""
            return f"fault: {event.kind} {short_name(event.worker)}{span} in step {event.step}"
        case HangDetected():
            silence = f"stood still for {duration(event.silent_s)} in {event.phase}"
            return f"{short_name(event.worker)} {silence}: killed by {short_name(event.by)}"
        case WorkerLost():
            return f"lost {short_name(event.worker)}, a {event.role}, at step {event.step} ({event.kind})"
        case FailureRecovered():
            pairs = zip(PHASES, phase_s(event), strict=True)
            phases = ", ".join(f"{phase} {milliseconds(seconds)}" for phase, seconds in pairs)
            return f"{recovered_line(event)} (ms: {phases})"


def _about_commits(event: CommitWritten | CommitFailed) -> str:
    match event:
        case CommitWritten():
            if event.count > 1:
                stall = f"stall {duration(event.stall_s)} in all"
                return f"{event.count} commits up to step {event.step} {TIER_NAMES[event.tier]}: {stall}"
            cost = f"{size(event.size_bytes)} in {duration(event.write_s)}, stall {duration(event.stall_s)}"
            return f"commit of step {event.step} {TIER_NAMES[event.tier]}: {cost}"
        case CommitFailed():
            return f"commit of step {event.step} FAILED: {one_line(event.problem)}"


class PlainPrinter:
    """Lines for a reader without a terminal: all that is noteworthy, and a step now and then by event time."""

    def __init__(self, every_s: float = 5.0) -> None:
        self._every_s = every_s
        self._start_s: float | None = None
        self._step_told_s: float | None = None

    def line(self, event: AnyEvent) -> str | None:
        """The line for the next event, with the seconds since the first one; None when there is nothing to say."""
        if self._start_s is None:
            self._start_s = event.time_s
        if isinstance(event, StepFinished):
            if self._step_told_s is not None and event.time_s - self._step_told_s < self._every_s:
                return None
            self._step_told_s = event.time_s
        text = plain_line(event)
        return None if text is None else f"{event.time_s - self._start_s:9.3f} s  {text}"
