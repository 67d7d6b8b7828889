"""What to choose: policy, commit interval, spares and copies, each with the curve behind the advice.

One thing is varied at a time, under the same failures, in this order: policy, interval, spares, copies; what was found
best is kept for the next. "Best" is work done for what is paid: effective time times nodes over machines. Knows how to
search; knows no terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from ft_horovod.core.commit_interval import young_interval_s
from simulator.costs.quantity import value_of
from simulator.experiments.compare import with_policy
from simulator.experiments.montecarlo import Cores, Study, study
from simulator.experiments.single import Case
from simulator.experiments.statistics import Estimate
from simulator.failures.presets import all_causes
from simulator.failures.stream import Site
from simulator.policies.registry import names
from simulator.scenario import Scenario

_FACTORS = (0.125, 0.25, 0.5, 0.707, 1.0, 1.414, 2.0, 4.0, 8.0)
_LEAST_INTERVAL_S = 1.0


class Choice(msgspec.Struct, frozen=True):
    """One point of a curve: what was tried, how good it is for what is paid, and its effective share of time."""

    value: float
    name: str
    worth: float
    effective: Estimate
    cost: float | None


class Curve(msgspec.Struct, frozen=True):
    """What was varied, all points, and the best of them."""

    what: str
    unit: str
    points: tuple[Choice, ...]
    best: Choice


class Plan(msgspec.Struct, frozen=True):
    """Advice and the curves behind it. `scenario` has the advice in it."""

    scenario: Scenario
    curves: tuple[Curve, ...]


def job_mtbf_s(scenario: Scenario) -> float:
    """Mean time between failures of the whole job from the causes' rates, in seconds; infinite without causes."""
    site = Site(scenario.machines, scenario.cluster.nodes_per_rack)
    per_s = 0.0
    for cause in all_causes(scenario.failures):
        if cause.effect not in ("slow", "false_alarm"):
            per_s += site.units(cause) / cause.mtbf_s(site.units(cause)) * scenario.failures.rate_factor
    return 1 / per_s if per_s else float("inf")


def make_plan(
    case: Case,
    workers: Cores,
    *,
    runs: int,
    budget: float | None = None,
    told: Callable[[str], None] = lambda what: None,
) -> Plan:
    """Vary one thing after the other. With a `budget` what costs more is left out while anything costs less."""
    curves = []
    for what, unit, tries in (
        ("policy", "", _policies),
        ("commit interval", "s", _intervals),
        ("spares", "nodes", _spares),
        ("copies of each state", "", _copies),
    ):
        points = []
        best: tuple[Choice, Case] | None = None
        for value, name, variant in tries(case):
            told(f"{what} {name}")
            choice = _choice(value, name, variant, study(variant, workers, runs=runs))
            points.append(choice)
            if best is None or _better(choice, best[0], budget):
                best = (choice, variant)
        if best is None:
            continue
        case = best[1]
        curves.append(Curve(what, unit, tuple(sorted(points, key=lambda point: point.value)), best[0]))
    return Plan(case.scenario, tuple(curves))


def interval_curve(case: Case, workers: Cores, runs: int) -> Curve:
    """Effective time against the commit interval."""
    points = [_choice(v, n, variant, study(variant, workers, runs=runs)) for v, n, variant in _intervals(case)]
    best = max(points, key=lambda point: point.worth)
    return Curve("commit interval", "s", tuple(reversed(points)), best)


def rate_curve(
    case: Case, policies: Sequence[str], workers: Cores, runs: int
) -> dict[str, list[tuple[float, Estimate]]]:
    """Effective time of each policy against the failure rate, as a multiple of the scenario's own."""
    lines: dict[str, list[tuple[float, Estimate]]] = {}
    for policy in policies:
        for factor in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0):
            scenario = with_policy(case, policy).scenario
            failures = msgspec.structs.replace(scenario.failures, rate_factor=scenario.failures.rate_factor * factor)
            variant = _with(case, msgspec.structs.replace(scenario, failures=failures))
            lines.setdefault(policy, []).append((factor, study(variant, workers, runs=runs).effective))
    return lines


def _better(choice: Choice, best: Choice, budget: float | None) -> bool:
    if budget is not None and choice.cost is not None and best.cost is not None:
        fits, best_fits = choice.cost <= budget, best.cost <= budget
        if fits != best_fits:
            return fits
    return choice.worth > best.worth


def _choice(value: float, name: str, case: Case, result: Study) -> Choice:
    worth = result.effective.mean * case.scenario.cluster.nodes / case.scenario.machines
    return Choice(value, name, worth, result.effective, None if result.cost is None else result.cost.mean)


def _with(case: Case, scenario: Scenario) -> Case:
    return msgspec.structs.replace(case, scenario=scenario)


def _policies(case: Case) -> Iterator[tuple[float, str, Case]]:
    for number, name in enumerate(names()):
        yield number, name, with_policy(case, name)


def _intervals(case: Case) -> Iterator[tuple[float, str, Case]]:
    """Around Young's interval for the job's MTBF, or around the scenario's own when no rates are given."""
    scenario = case.scenario
    commit = scenario.commit
    cost_s = max(value_of(commit.stall_s), 0.1)
    mtbf_s = job_mtbf_s(scenario)
    middle_s = young_interval_s(cost_s, mtbf_s) if mtbf_s < float("inf") else scenario.interval_s or 3600.0
    floor_s = max(_LEAST_INTERVAL_S, value_of(commit.write_s), value_of(scenario.costs.step_s))
    # The longest first: where an interval makes no difference, the fewest commits are the best.
    for every_s in sorted({max(floor_s, round(middle_s * factor, 1)) for factor in _FACTORS}, reverse=True):
        changed = msgspec.structs.replace(commit, every_s=every_s, every_steps=None)
        yield every_s, f"{every_s:,.0f} s", _with(case, msgspec.structs.replace(scenario, commit=changed))


def _spares(case: Case) -> Iterator[tuple[float, str, Case]]:
    scenario = case.scenario
    nodes = scenario.cluster.nodes
    for spares in sorted({0, *(max(1, round(nodes * share)) for share in (0.0, 0.005, 0.01, 0.02, 0.05, 0.1))}):
        cluster = msgspec.structs.replace(scenario.cluster, spares=spares)
        yield spares, str(spares), _with(case, msgspec.structs.replace(scenario, cluster=cluster))


def _copies(case: Case) -> Iterator[tuple[float, str, Case]]:
    """Copies for policies that keep them elsewhere; stages' groups have as many members as nodes allow anyway."""
    if case.scenario.policy not in ("peer_replication", "parameter_server"):
        return
    for replicas in (1, 2, 3):
        options = msgspec.structs.replace(case.scenario.options, replicas=replicas)
        yield replicas, str(replicas), _with(case, msgspec.structs.replace(case.scenario, options=options))
