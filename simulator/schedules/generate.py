"""Failures drawn at a scenario's rates, written down one by one. Knows causes and kinds of faults."""

from __future__ import annotations

import msgspec
import numpy as np

from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import At, Fault, FaultSchedule, Kind, Target
from simulator.failures.causes import Effect
from simulator.failures.presets import all_causes
from simulator.failures.stream import Rates, Site, Stream, Strike
from simulator.scenario import Scenario
from simulator.units import S_PER_H, to_s

_KINDS: dict[Effect, Kind] = {
    "kill": "kill", "hang": "hang", "slow": "slow", "false_alarm": "kill", "preempt": "leave", "partition": "partition",
    "corrupt": "kill",
}  # fmt: skip
_MOST = 100_000


def drawn_schedule(scenario: Scenario, *, hours: float, time_factor: float = 1.0) -> FaultSchedule:
    """The failures of so many hours, with the scenario's seed. Raises ConfigError when there are too many to write."""
    failures = scenario.failures
    rates = Rates(all_causes(failures), failures.lemons, failures.rate_factor)
    site = Site(scenario.machines, scenario.cluster.nodes_per_rack)
    faults: list[Fault] = []
    for strike in Stream(rates, site, np.random.default_rng([scenario.seed, 0]), hours * S_PER_H):
        faults += [_fault(strike, node, time_factor) for node in strike.nodes]
        if len(faults) > _MOST:
            raise ConfigError(f"more than {_MOST:,} faults in {hours:g} h", source="command line")
    return FaultSchedule(version=1, seed=scenario.seed, faults=tuple(faults))


def _fault(strike: Strike, node: int, time_factor: float) -> Fault:
    cause = strike.cause
    lasts_s = to_s(strike.repair_ns or 0) * time_factor
    fault = Fault(
        kind=_KINDS[cause.effect],
        at=At(time_s=round(to_s(strike.time_ns) * time_factor, 6)),
        target=Target(worker=node),
        duration_s=max(lasts_s, 1e-6) if cause.repair is not None else None,
        factor=cause.factor,
    )
    return msgspec.structs.replace(fault, notice_s=cause.notice_s) if cause.effect == "preempt" else fault
