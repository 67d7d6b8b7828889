"""The state of a run as its trace tells it: a pure fold over events.

The same events in the same order always give the same state. Nothing here reads a file or a clock: views are told
what time it is. The parts are folds of their own: `crew` (who is there), `progress` (how far), `ledger` (time spent).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    Evaluated,
    FailureRecovered,
    RunFinished,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    TrainingStopped,
)
from ft_horovod.status.crew import Crew, Pending
from ft_horovod.status.ledger import Ledger
from ft_horovod.status.progress import Progress

RECENT_EVENTS = 50


@dataclass(slots=True)
class RunState:
    """Everything the views show. Fields are None until the trace tells them."""

    run: RunStarted | None = None
    training: TrainingStarted | None = None
    commit: CommitWritten | None = None
    evaluation: Evaluated | None = None
    finished: TrainingFinished | None = None
    stopped: TrainingStopped | None = None
    outcome: RunFinished | None = None
    crew: Crew = field(default_factory=Crew)
    progress: Progress = field(default_factory=Progress)
    ledger: Ledger = field(default_factory=Ledger)
    recent: deque[AnyEvent] = field(default_factory=lambda: deque(maxlen=RECENT_EVENTS))

    def apply(self, event: AnyEvent) -> None:
        """Take in one event. Events may be told twice, and by different workers in a slightly wrong order."""
        self.crew.apply(event)
        self.progress.apply(event)
        self.ledger.apply(event)
        match event:
            case RunStarted():
                self.run, self.finished, self.stopped, self.outcome = event, None, None, None
            case TrainingStarted():
                self.training, self.finished, self.stopped = event, None, None
            case CommitWritten():
                self.commit = event
            case Evaluated():
                self.evaluation = event
            case TrainingFinished():
                self.finished = event
            case TrainingStopped():
                self.stopped = event
            case RunFinished():
                self.outcome = event
            case _:
                pass
        if not isinstance(event, StepFinished):
            self.recent.append(event)

    @property
    def failures(self) -> tuple[FailureRecovered, ...]:
        """Failures that are over, oldest first."""
        return self.ledger.failures

    @property
    def pending(self) -> tuple[Pending, ...]:
        """Failures whose recovery has not been reported yet, oldest first."""
        return tuple(sorted(self.crew.pending.values(), key=lambda pending: pending.since_s))


def fold(events: Iterable[AnyEvent]) -> RunState:
    """The state after all events."""
    state = RunState()
    for event in events:
        state.apply(event)
    return state
