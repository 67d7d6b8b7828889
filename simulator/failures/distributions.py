"""Times between failures and times to repair: four families and a constant, all given by their mean.

Knows how to draw; knows no nodes.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ft_horovod.core.config import Positive, Section

Family = Literal["exponential", "weibull", "lognormal", "gamma", "fixed"]
Shape = Annotated[float, Meta(ge=0.1, le=100)]


class Spread(Section, frozen=True):
    """A distribution without its mean.

    `shape`: Weibull's and the gamma distribution's k (1: exponential, below: in bursts), the lognormal's sigma.
    """

    family: Family = "exponential"
    shape: Shape = 1.0


class Duration(Section, frozen=True):
    """How long something takes: a mean in seconds, and how it spreads."""

    mean_s: Positive
    family: Family = "exponential"
    shape: Shape = 1.0

    @property
    def spread(self) -> Spread:
        return Spread(family=self.family, shape=self.shape)


def draw(
    spread: Spread, mean_s: float | NDArray[np.float64], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """`count` times in seconds whose mean is `mean_s` (one, or one for each), shape [count]."""
    match spread.family:
        case "exponential":
            return rng.exponential(1.0, count) * mean_s
        case "weibull":
            return rng.weibull(spread.shape, count) * (mean_s / math.gamma(1 + 1 / spread.shape))
        case "lognormal":
            return rng.lognormal(-(spread.shape**2) / 2, spread.shape, count) * mean_s
        case "gamma":
            return rng.gamma(spread.shape, 1 / spread.shape, count) * mean_s
        case "fixed":
            return np.full(count, 1.0) * mean_s
