"""How long steps take, and how much of a disturbed one the disturbance cost."""

from __future__ import annotations

import statistics
import time
from collections import deque

_TYPICAL_STEPS = 20


class Pace:
    """Times the steps of one worker."""

    def __init__(self) -> None:
        self._undisturbed = deque[float](maxlen=_TYPICAL_STEPS)
        self._step: int | None = None
        self._begun_at = 0.0
        self._disturbed = False

    @property
    def typical_s(self) -> float:
        """Median of the last undisturbed steps; 0 before the first."""
        return statistics.median(self._undisturbed) if self._undisturbed else 0.0

    def begin(self, step: int) -> bool:
        """A step begins; False when it is done again after a failure: then its time goes on."""
        if step == self._step:
            return False
        self._step, self._begun_at, self._disturbed = step, time.monotonic(), False
        return True

    def disturb(self, step: int) -> None:
        """The group changed while `step` was in hand."""
        self._disturbed = self._disturbed or step == self._step

    def finish(self) -> tuple[float, float]:
        """The step is finished: how long it took in all, and how much of that a disturbance cost, in seconds."""
        step_s = time.monotonic() - self._begun_at
        self._step = None
        if self._disturbed:
            return step_s, max(0.0, step_s - self.typical_s)
        self._undisturbed.append(step_s)
        return step_s, 0.0
