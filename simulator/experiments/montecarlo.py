"""Runs until the interval is narrow enough, on all cores, with the same result on any number of them.

Runs are numbered and their seeds depend on the number alone; whether to go on is decided after whole rounds. Knows
processes; what a run is, `single` knows.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import msgspec

from simulator.engine.ledger import Account
from simulator.engine.outcome import Ending, Outcome
from simulator.experiments.single import Case, run_once
from simulator.experiments.statistics import Estimate, estimate
from simulator.units import NS_PER_S, S_PER_H

Told = Callable[[int, int], None]
_CHUNK_RUNS = 4
_NOTHING = 1e-3  # of the wall time: so little work is none
_INLINE = 4  # so few runs are not worth starting processes for


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What many runs of one policy say. Times in seconds, cost in the currency of the price."""

    policy: str
    runs: int
    endings: dict[Ending, int]
    goodput: Estimate
    effective: Estimate
    wall_s: Estimate
    accounts_s: dict[str, Estimate]
    interruptions: Estimate
    planned: Estimate
    tiers: dict[str, float]
    causes: dict[str, float]
    events: int
    cost: Estimate | None = None
    sample: Outcome | None = None

    @property
    def stuck(self) -> bool:
        """Whether no run got anywhere; one that ran out of nodes after some work did."""
        in_vain, starved = self.endings.get("no_progress", 0), self.endings.get("starved", 0)
        return in_vain == self.runs or (in_vain + starved == self.runs and self.effective.mean < _NOTHING)


class Cores:
    """Worker processes, started at the first use and kept for the next."""

    def __init__(self, count: int | None = None) -> None:
        self.count = count or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None

    def map(self, case: Case, numbers: Sequence[int]) -> Iterator[Outcome]:
        """Outcomes in the order of their numbers."""
        if self.count == 1 or len(numbers) <= _INLINE:
            return (run_once(case, number) for number in numbers)
        if self._pool is None:
            context = multiprocessing.get_context("forkserver" if _forkserver_fits() else "spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context)
        return self._pool.map(_Runner(case), numbers, chunksize=_CHUNK_RUNS)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


@contextmanager
def cores(count: int | None = None) -> Iterator[Cores]:
    """All cores, or `count` of them; their processes end with the block."""
    some = Cores(count)
    try:
        yield some
    finally:
        some.close()


class _Runner(msgspec.Struct, frozen=True):
    """A run as a value that another process can be sent."""

    case: Case

    def __call__(self, number: int) -> Outcome:
        return run_once(self.case, number)


def study(case: Case, workers: Cores, *, runs: int | None = None, told: Told = lambda done, most: None) -> Study:
    """Run until goodput is known to `precision.half_width`, or exactly `runs` times; `told` hears how far it is.

    Raises ConfigError for an unknown policy or victim.
    """
    precision = case.scenario.precision
    least, most = (runs, runs) if runs else (precision.least, precision.most)
    outcomes = [run_once(case, 0, record=2000)]
    while len(outcomes) < most:
        wanted = min(most, max(least, 2 * len(outcomes)))
        for outcome in workers.map(case, range(len(outcomes), wanted)):
            outcomes.append(outcome)
            told(len(outcomes), most)
        if len(outcomes) >= least and estimate([o.goodput for o in outcomes]).half_width <= precision.half_width:
            break
    return summarise(case, outcomes)


def summarise(case: Case, outcomes: Sequence[Outcome]) -> Study:
    """The figures of several outcomes."""
    cluster = case.scenario.cluster
    walls_s = [outcome.wall_ns / NS_PER_S for outcome in outcomes]
    cost = None
    if cluster.price_per_gpu_h is not None:
        per_s = case.scenario.machines * cluster.gpus_per_node * cluster.price_per_gpu_h / S_PER_H
        cost = estimate([wall_s * per_s for wall_s in walls_s])
    accounts = [account.name.lower() for account in Account]
    endings: dict[Ending, int] = {}
    for outcome in outcomes:
        endings[outcome.ending] = endings.get(outcome.ending, 0) + 1
    return Study(
        policy=case.scenario.policy,
        runs=len(outcomes),
        endings=endings,
        goodput=estimate([outcome.goodput for outcome in outcomes]),
        effective=estimate([outcome.effective for outcome in outcomes]),
        wall_s=estimate(walls_s),
        accounts_s={name: estimate([o.accounts_ns[name] / NS_PER_S for o in outcomes]) for name in accounts},
        interruptions=estimate([float(outcome.interruptions) for outcome in outcomes]),
        planned=estimate([float(outcome.planned) for outcome in outcomes]),
        tiers=_means([outcome.tiers for outcome in outcomes]),
        causes=_means([outcome.causes for outcome in outcomes]),
        events=sum(outcome.events for outcome in outcomes),
        cost=cost,
        sample=outcomes[0],
    )


def _means(counts: Sequence[dict[str, int]]) -> dict[str, float]:
    keys = sorted({key for count in counts for key in count})
    return {key: sum(count.get(key, 0) for count in counts) / len(counts) for key in keys}


def _forkserver_fits() -> bool:
    return "forkserver" in multiprocessing.get_all_start_methods()
