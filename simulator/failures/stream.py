"""When what fails: failures in order of time, drawn window by window.

Memoryless causes are drawn as one Poisson process for all units, others as a renewal process for each unit, new at time
0 and counted on from each failure. A failure of a node that is down already is passed on; who receives it ignores it.
Knows causes and the shape of the cluster; knows nothing of the job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.failures.causes import Cause, Lemons
from simulator.failures.distributions import draw
from simulator.units import NS_PER_S

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIRST, _MOST = 128, 20_000  # strikes drawn at once, more each time: little for short runs, and memory is bounded


@dataclass(frozen=True, slots=True)
class Site:
    """Machines and how they stand: `nodes` in racks of `per_rack`, numbered from 0."""

    nodes: int
    per_rack: int

    def units(self, cause: Cause) -> int:
        """How many units of the cause's reach there are."""
        if cause.per == "cluster":
            return 1
        return self.nodes if cause.per == "node" else -(-self.nodes // self.per_rack)

    def victims(self, cause: Cause, unit: int) -> Sequence[int]:
        """The nodes of a unit."""
        if cause.per == "node":
            return (unit,)
        if cause.per == "cluster":
            return range(self.nodes)
        return range(unit * self.per_rack, min(self.nodes, (unit + 1) * self.per_rack))


class Strike(msgspec.Struct, frozen=True, gc=False):
    """One failure: when, whom, why, and how long the nodes are away (0: back at once; None: until something joins)."""

    time_ns: int
    nodes: Sequence[int]
    cause: Cause
    repair_ns: int | None


@dataclass(frozen=True, slots=True)
class Rates:
    """What fails, with what weight; `factor` multiplies all rates."""

    causes: tuple[Cause, ...]
    lemons: Lemons | None = None
    factor: float = 1.0


class Stream:
    """The strikes of several causes in order of time, until `limit_s`."""

    def __init__(self, rates: Rates, site: Site, rng: np.random.Generator, limit_s: float) -> None:
        self._site, self._rng, self._limit_s = site, rng, limit_s
        weights = _lemon_weights(site.nodes, rates.lemons, rng)
        self._sources = [_Source(cause, site.units(cause), rates.factor, weights, rng) for cause in rates.causes]

    def __iter__(self) -> Iterator[Strike]:
        start_s, count = 0.0, float(_FIRST)
        per_s = max(1e-300, sum(source.per_s for source in self._sources))
        while self._sources and start_s < self._limit_s:
            end_s = min(start_s + count / per_s, self._limit_s)
            yield from self._window(start_s, end_s)
            start_s, count = end_s, min(count * 4, _MOST)

    def _window(self, start_s: float, end_s: float) -> Iterator[Strike]:
        drawn = [source.draw(start_s, end_s) for source in self._sources]
        times_s = np.concatenate([times for times, _, _ in drawn])
        units = np.concatenate([units for _, units, _ in drawn])
        repairs_s = np.concatenate([repairs for _, _, repairs in drawn])
        which = np.repeat(np.arange(len(drawn)), [len(times) for times, _, _ in drawn])
        order = np.lexsort((units, which, times_s))
        times_ns = np.rint(times_s[order] * NS_PER_S).astype(np.int64).tolist()
        repairs_ns = np.rint(repairs_s[order] * NS_PER_S).astype(np.int64).tolist()
        for time_ns, unit, number, repair_ns in zip(
            times_ns, units[order].tolist(), which[order].tolist(), repairs_ns, strict=True
        ):
            cause = self._sources[number].cause
            nodes: Sequence[int] = (unit,) if cause.per == "node" else self._site.victims(cause, unit)
            if cause.burst is not None:
                nodes = self._with_neighbours(cause, nodes)
            yield Strike(time_ns, nodes, cause, repair_ns)

    def _with_neighbours(self, cause: Cause, nodes: Sequence[int]) -> Sequence[int]:
        burst = cause.burst
        if burst is None or cause.per == "cluster" or self._rng.random() >= burst.probability:
            return nodes
        rack = nodes[0] // self._site.per_rack * self._site.per_rack
        others = [n for n in range(rack, min(self._site.nodes, rack + self._site.per_rack)) if n not in nodes]
        count = min(len(others), int(self._rng.geometric(1 / burst.others_mean)))
        return (*nodes, *sorted(self._rng.choice(others, count, replace=False).tolist())) if count else nodes


class _Source:
    """One cause's failures."""

    def __init__(
        self, cause: Cause, units: int, rate_factor: float, weights: Floats | None, rng: np.random.Generator
    ) -> None:
        self.cause, self._units, self._rng = cause, units, rng
        self._mean_s = cause.mtbf_s(units) / rate_factor
        self._weights = weights if cause.per == "node" else None
        self.per_s = float(units if self._weights is None else self._weights.sum()) / self._mean_s
        self._next_s = None if cause.spread.family == "exponential" else self._gaps(np.arange(units))

    def draw(self, start_s: float, end_s: float) -> tuple[Floats, Ints, Floats]:
        """Times, units and repair times (seconds) of the failures in the window, in no order."""
        times_s, units = self._poisson(start_s, end_s) if self._next_s is None else self._renewal(end_s)
        repair = self.cause.repair
        if repair is None:
            return times_s, units, np.zeros(len(times_s))
        return times_s, units, draw(repair.spread, repair.mean_s, len(times_s), self._rng)

    def _poisson(self, start_s: float, end_s: float) -> tuple[Floats, Ints]:
        count = int(self._rng.poisson((end_s - start_s) * self.per_s))
        times_s = self._rng.uniform(start_s, end_s, count)
        if self._weights is None:
            return times_s, self._rng.integers(0, self._units, count)
        return times_s, self._rng.choice(self._units, count, p=self._weights / self._weights.sum())

    def _renewal(self, end_s: float) -> tuple[Floats, Ints]:
        if self._next_s is None:
            raise ValueError("a memoryless cause has no renewals")
        times, units = [], []
        due = np.flatnonzero(self._next_s < end_s)
        while due.size:
            times.append(self._next_s[due])
            units.append(due)
            self._next_s[due] += self._gaps(due)
            due = due[self._next_s[due] < end_s]
        if not times:
            return np.empty(0), np.empty(0, dtype=np.int64)
        return np.concatenate(times), np.concatenate(units)

    def _gaps(self, units: Ints) -> Floats:
        mean_s: float | Floats = self._mean_s if self._weights is None else self._mean_s / self._weights[units]
        return draw(self.cause.spread, mean_s, len(units), self._rng)


def _lemon_weights(nodes: int, lemons: Lemons | None, rng: np.random.Generator) -> Floats | None:
    if lemons is None:
        return None
    weights = np.ones(nodes)
    weights[rng.choice(nodes, round(nodes * lemons.share), replace=False)] = lemons.factor
    return weights
