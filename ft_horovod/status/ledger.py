"""Where the time of a run went: a fold over its trace.

Knows the durations that events carry and the times at which they were written. It does not know what time it is, nor
which worker does what.
"""

from __future__ import annotations

import math
import statistics
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    FailureRecovered,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
)

PHASES = ("detect", "shrink", "replan", "restore", "reinit", "redo")
"""The phases of a recovery, in the order in which they happen; they add up to its total."""


def phase_s(failure: FailureRecovered) -> tuple[float, ...]:
    """Seconds in each of PHASES."""
    return (
        failure.detect_s,
        failure.shrink_s,
        failure.replan_s,
        failure.restore_s,
        failure.reinit_s,
        failure.redo_s,
    )


@dataclass(slots=True)
class StepTable:
    """Each step once: a step that is told again replaces what was told before. 24 bytes a step."""

    useful_s: array[float] = field(default_factory=lambda: array("d"))
    recovery_s: array[float] = field(default_factory=lambda: array("d"))
    samples: array[int] = field(default_factory=lambda: array("q"))
    useful_sum_s: float = 0.0
    recovery_sum_s: float = 0.0
    samples_sum: int = 0

    def put(self, event: StepFinished) -> None:
        """Count a step, in place of what was counted for the same number."""
        missing = event.step + 1 - len(self.useful_s)
        if missing > 0:
            self.useful_s.extend([math.nan] * missing)
            self.recovery_s.extend([0.0] * missing)
            self.samples.extend([0] * missing)
        elif not math.isnan(self.useful_s[event.step]):
            self.useful_sum_s -= self.useful_s[event.step]
            self.recovery_sum_s -= self.recovery_s[event.step]
            self.samples_sum -= self.samples[event.step]
        self.useful_s[event.step] = event.step_s - event.recovery_s
        self.recovery_s[event.step] = event.recovery_s
        self.samples[event.step] = event.samples
        self.useful_sum_s += event.step_s - event.recovery_s
        self.recovery_sum_s += event.recovery_s
        self.samples_sum += event.samples

    def median_s(self) -> float | None:
        """The median duration of the steps that no failure touched."""
        calm = [
            useful_s
            for useful_s, recovery_s in zip(self.useful_s, self.recovery_s, strict=True)
            if recovery_s == 0 and not math.isnan(useful_s)
        ]
        return statistics.median(calm) if calm else None


@dataclass(slots=True)
class Ledger:
    """Times and durations of a run so far; `attempt` counts the starts of training: a run may be resumed."""

    attempt: int = 0
    run_started_s: float | None = None
    training_started_s: float | None = None
    training_finished_s: float | None = None
    last_event_s: float | None = None
    last_step_s: float | None = None
    steps_done: int | None = None
    steps: StepTable = field(default_factory=StepTable)
    commit_stall_s: float = 0.0
    recovered: dict[tuple[int, str], FailureRecovered] = field(default_factory=dict)

    def apply(self, event: AnyEvent) -> None:
        """Book one event."""
        self.last_event_s = max(event.time_s, self.last_event_s or event.time_s)
        match event:
            case RunStarted():
                self.run_started_s = self.run_started_s or event.time_s
            case TrainingStarted():
                self.attempt += 1
                self.training_started_s = self.training_started_s or event.time_s
                self.training_finished_s = None
                self.steps_done = event.step
            case StepFinished():
                self.steps.put(event)
                self.steps_done = event.step + 1
                self.last_step_s = event.time_s
            case FailureRecovered():
                self.recovered[self.attempt, event.worker] = event  # a worker is lost once in an attempt
            case CommitWritten():
                self.commit_stall_s += event.stall_s
            case TrainingFinished():
                self.training_finished_s = event.time_s
            case _:
                pass

    @property
    def failures(self) -> tuple[FailureRecovered, ...]:
        """One for each member lost, in the order in which they were told."""
        return tuple(self.recovered.values())

    def recoveries(self) -> tuple[FailureRecovered, ...]:
        """One for each recovery: of workers that were lost together, the one that cost most."""
        together: dict[tuple[int, int], FailureRecovered] = {}
        for (attempt, _), failure in self.recovered.items():
            key = (attempt, failure.epoch)
            if key not in together or failure.total_s > together[key].total_s:
                together[key] = failure
        return tuple(together.values())

    def wall_s(self) -> float | None:
        """From the first TrainingStarted to the last TrainingFinished, or to the last event without one."""
        end_s = self.training_finished_s or self.last_event_s
        if self.training_started_s is None or end_s is None:
            return None
        return max(0.0, end_s - self.training_started_s)

    def startup_s(self) -> float | None:
        """From the launcher's first word to the start of training."""
        if self.run_started_s is None or self.training_started_s is None:
            return None
        return max(0.0, self.training_started_s - self.run_started_s)

    def goodput(self) -> float | None:
        """Useful seconds over wall seconds."""
        return ratio(self.steps.useful_sum_s, self.wall_s())

    def goodput_so_far(self) -> float | None:
        """The same up to the last finished step, so that the step in hand does not count as lost."""
        if self.training_finished_s is not None or self.last_step_s is None or self.training_started_s is None:
            return self.goodput()
        return ratio(self.steps.useful_sum_s, self.last_step_s - self.training_started_s)


def ratio(part_s: float, whole_s: float | None) -> float | None:
    """A share, clipped to 1: clocks that tick differently may make the part a hair more than the whole."""
    if whole_s is None or whole_s <= 0:
        return None
    return min(1.0, max(0.0, part_s / whole_s))


def median_s(failures: Iterable[FailureRecovered]) -> float | None:
    """The median total of recoveries, in seconds."""
    totals = [failure.total_s for failure in failures]
    return statistics.median(totals) if totals else None
