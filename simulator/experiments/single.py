"""One run of a scenario. Knows how strikes, policy and job are put together, and which seed a run has."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import msgspec
import numpy as np

from ft_horovod.core.schedule import FaultSchedule
from simulator.costs.quantity import value_of
from simulator.engine.job import Job
from simulator.engine.outcome import Outcome
from simulator.failures.presets import all_causes
from simulator.failures.scheduled import joins_of, scheduled_strikes
from simulator.failures.stream import Rates, Site, Stream, Strike
from simulator.policies.registry import find
from simulator.scenario import Scenario
from simulator.units import to_s


class Case(msgspec.Struct, frozen=True):
    """A scenario with its fault schedule read, if it has one, and the file it comes from."""

    scenario: Scenario
    schedule: FaultSchedule | None = None
    source: str = "scenario"


def run_once(case: Case, number: int, *, record: int = 0) -> Outcome:
    """Run `number` of the case: the same number always gives the same outcome, whichever others are run, and where.

    All policies see the same failures under the same number. Raises ConfigError for an unknown policy or victim.
    """
    scenario = case.scenario
    planned: list[Strike] = []
    if case.schedule is not None:
        planned = scheduled_strikes(
            case.schedule, scenario.machines, step_s=value_of(scenario.costs.step_s), source=case.source
        )
    strikes = _drawn(scenario, number)
    if planned:
        strikes = heapq.merge(planned, strikes, key=_time_ns)
    maker = find(scenario.policy, source=case.source)
    return Job(scenario, maker, strikes, joins=joins_of(planned), record=record).run()


def _drawn(scenario: Scenario, number: int) -> Iterator[Strike]:
    failures = scenario.failures
    rates = Rates(all_causes(failures), failures.lemons, failures.rate_factor)
    site = Site(scenario.machines, scenario.cluster.nodes_per_rack)
    rng = np.random.default_rng([scenario.seed, number])
    return iter(Stream(rates, site, rng, to_s(scenario.limit_ns)))


def _time_ns(strike: Strike) -> int:
    return strike.time_ns
