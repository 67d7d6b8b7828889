"""Sets of positions as sorted, disjoint, half-open intervals, and how work is shared out.

A step covers the positions `[first, last)` of an epoch's permutation. Each worker computes some of them, and after a
failure only those that the lost workers computed are missing. This module knows arithmetic on intervals, nothing of
samples or workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import msgspec


class Spans(msgspec.Struct, frozen=True):
    """A set of integers, held as sorted, disjoint, non-touching half-open intervals."""

    intervals: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        end = None
        for start, stop in self.intervals:
            if start >= stop or (end is not None and start <= end):
                raise ValueError(f"not sorted, disjoint and non-empty: {self.intervals}")
            end = stop

    @classmethod
    def of(cls, intervals: Iterable[tuple[int, int]]) -> Self:
        """The union of intervals in any order; empty ones are dropped, touching ones merged."""
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(pair for pair in intervals if pair[0] < pair[1]):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return cls(tuple(merged))

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.intervals)

    def __bool__(self) -> bool:
        return bool(self.intervals)

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.intervals:
            yield from range(start, stop)

    def __or__(self, other: Spans) -> Spans:
        return Spans.of((*self.intervals, *other.intervals))

    def __sub__(self, other: Spans) -> Spans:
        left: list[tuple[int, int]] = []
        for start, stop in self.intervals:
            for cut_start, cut_stop in other.intervals:
                if cut_stop <= start or cut_start >= stop:
                    continue
                if cut_start > start:
                    left.append((start, cut_start))
                start = cut_stop
                if start >= stop:
                    break
            if start < stop:
                left.append((start, stop))
        return Spans.of(left)

    def __and__(self, other: Spans) -> Spans:
        return self - (self - other)

    def take(self, count: int) -> tuple[Spans, Spans]:
        """The first `count` elements, and the rest."""
        head: list[tuple[int, int]] = []
        tail: list[tuple[int, int]] = []
        for start, stop in self.intervals:
            cut = min(stop, start + max(count, 0))
            count -= cut - start
            head.append((start, cut))
            tail.append((cut, stop))
        return Spans.of(head), Spans.of(tail)


def share_out(work: Spans, weights: Sequence[float]) -> tuple[Spans, ...]:
    """Split `work`, in order, into one share for each weight, as evenly as the weights ask.

    Every element is in exactly one share. With equal weights the sizes differ by at most one, the larger shares first.
    Raises ValueError without weights, or when one is negative or not finite, or all are zero.
    """
    if not weights or not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"weights must be finite, non-negative and not all zero, got {list(weights)}")
    # In whole numbers, so that no rounding gives a share too many or too few, and everyone computes the same split.
    ratios = [weight.as_integer_ratio() for weight in weights]
    scale = math.lcm(*(denominator for _, denominator in ratios))
    parts = [numerator * (scale // denominator) for numerator, denominator in ratios]
    total, count = sum(parts), len(work)
    sizes = [count * part // total for part in parts]
    # Largest remainder first; ties go to the earlier worker.
    order = sorted(range(len(sizes)), key=lambda i: (-(count * parts[i] % total), i))
    for i in order[: count - sum(sizes)]:
        sizes[i] += 1
    shares: list[Spans] = []
    for size in sizes:
        share, work = work.take(size)
        shares.append(share)
    return tuple(shares)
