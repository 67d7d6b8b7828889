"""How far a run is and how fast it goes: a fold over its trace.

Knows steps, losses and their pace. It does not know workers, and no clock: times are those of events.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ft_horovod.core.trace import AnyEvent, StepFinished, TrainingStarted

THROUGHPUT_STEPS = 10
PACE_STEPS = 50


@dataclass(slots=True)
class History:
    """A curve in bounded memory: when full, neighbours are merged, and each value stands for twice as many."""

    capacity: int = 128
    values: list[float] = field(default_factory=list)
    stride: int = 1
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float) -> None:
        """Append a value; values that are not finite are left out."""
        if not math.isfinite(value):
            return
        self._sum += value
        self._count += 1
        if self._count < self.stride:
            return
        self.values.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self.values) >= self.capacity:
            pairs = zip(self.values[::2], self.values[1::2], strict=True)
            self.values = [(first + second) / 2 for first, second in pairs]
            self.stride *= 2


@dataclass(slots=True)
class Progress:
    """`step` counts finished steps, so it is also the number of the step in hand."""

    step: int = 0
    steps: int | None = None
    steps_per_epoch: int | None = None
    loss: float | None = None
    lr: float | None = None
    losses: History = field(default_factory=History)
    last_step_s: float | None = None
    _recent: deque[StepFinished] = field(default_factory=lambda: deque(maxlen=PACE_STEPS))

    def apply(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case TrainingStarted():
                self.step, self.steps, self.steps_per_epoch = event.step, event.steps, event.steps_per_epoch
                self.last_step_s = event.time_s
                self._recent.clear()
            case StepFinished():
                self.step, self.loss, self.lr = event.step + 1, event.loss, event.lr
                self.last_step_s = event.time_s
                if event.loss is not None:
                    self.losses.add(event.loss)
                self._recent.append(event)
            case _:
                pass

    @property
    def data_epoch(self) -> int | None:
        """The pass over the data in hand, from 0."""
        if not self.steps_per_epoch:
            return None
        last = max(0, (self.steps or self.step) - 1)
        return min(self.step, last) // self.steps_per_epoch

    @property
    def data_epochs(self) -> int | None:
        """Passes over the data in all."""
        if not self.steps_per_epoch or self.steps is None:
            return None
        return math.ceil(self.steps / self.steps_per_epoch)

    @property
    def samples_per_s(self) -> float | None:
        """Over the last ten steps, recoveries included."""
        steps = list(self._recent)[-THROUGHPUT_STEPS:]
        busy_s = sum(step.step_s for step in steps)
        return sum(step.samples for step in steps) / busy_s if busy_s > 0 else None

    @property
    def mean_step_s(self) -> float | None:
        """Mean duration of the last fifty steps, recoveries included."""
        return sum(step.step_s for step in self._recent) / len(self._recent) if self._recent else None

    def eta_s(self) -> float | None:
        """Seconds until the last step, from the last step on, at the pace of the last fifty, pauses included."""
        if self.steps is None or len(self._recent) < 2:
            return None
        first, last = self._recent[0], self._recent[-1]
        pace_s = (last.time_s - first.time_s) / max(1, last.step - first.step)
        return max(0.0, pace_s * (self.steps - self.step))
