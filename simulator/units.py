"""Seconds outside, integer nanoseconds inside. Knows the two conversions and nothing else."""

from __future__ import annotations

NS_PER_S = 1_000_000_000
S_PER_H = 3600.0
S_PER_DAY = 86_400.0


def to_ns(seconds: float) -> int:
    """The nearest whole nanosecond. Raises OverflowError for what is not finite."""
    return round(seconds * NS_PER_S)


def to_s(nanoseconds: int) -> float:
    """Seconds of a whole number of nanoseconds."""
    return nanoseconds / NS_PER_S
