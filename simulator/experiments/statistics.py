"""Means with confidence intervals. Knows Student's t; knows no simulations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import stats


class Estimate(msgspec.Struct, frozen=True):
    """A mean, and half the width of its 95 % interval (0 when nothing varies)."""

    mean: float
    half_width: float

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


def estimate(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """The mean of independent values and its interval by Student's t. Raises ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("an interval needs two values")
    data = np.asarray(values, dtype=np.float64)
    error = float(data.std(ddof=1)) / len(data) ** 0.5
    return Estimate(float(data.mean()), error * float(stats.t.ppf((1 + confidence) / 2, len(data) - 1)))
