"""Published figures as checks: what is simulated, the target, the threshold stated beforehand, and what came out.

The inputs stand here, none is fitted to its target. Sources are named with each check. Knows papers; prints nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from ft_horovod.core.commit_interval import daly_interval_s
from simulator.closed_forms import (
    best_interval_s,
    daly_run_time_s,
    expected_ettr,
    gemini_survival,
    mttf_s,
    wasted_per_failure_s,
)
from simulator.costs.model import Commit, Costs
from simulator.experiments.memoryless import Memoryless, simulate
from simulator.experiments.montecarlo import Cores, Study, study
from simulator.experiments.single import Case
from simulator.experiments.statistics import Estimate, estimate
from simulator.failures.causes import Cause, Failures
from simulator.failures.presets import LLAMA3_UNPLANNED
from simulator.policies.peer_replication import survives
from simulator.scenario import ClusterConfig, JobConfig, Scenario
from simulator.units import S_PER_H


class Check(msgspec.Struct, frozen=True):
    """One figure: its target, how far off it may be, what was got, and whether that holds."""

    name: str
    source: str
    target: str
    threshold: str
    got: str
    holds: bool


def daly_case(mtbf_h: float, interval_min: float) -> Case:
    """500 h of work, commits of 5 min, restarts of 10 min: Daly (2006), section 5."""
    scenario = Scenario(
        cluster=ClusterConfig(nodes=1),
        job=JobConfig(work_h=500),
        failures=Failures(causes=(Cause(name="failure", mtbf_h=mtbf_h),)),
        commit=Commit(every_s=interval_min * 60, stall_s=300.0),
        costs=Costs(detect_kill_s=0.0, cold_restart_s=600.0),
        policy="restart_disk",
    )
    return Case(scenario)


def daly_checks(cores: Cores, runs: int = 6000) -> list[Check]:
    """Event by event and vectorised against the closed form; the best interval against the published minutes."""
    checks = []
    for mtbf_h, best_min, hours in ((24.0, 117.0, 547.88), (6.0, 57.0, 610.22)):
        exact_h = daly_run_time_s(500 * S_PER_H, best_min * 60, 300, 600, mtbf_h * S_PER_H) / S_PER_H
        source = "Daly 2006"
        events = _hours(study(daly_case(mtbf_h, best_min), cores, runs=runs).wall_s)
        inside = events.low <= exact_h <= events.high
        close = abs(events.mean / hours - 1) <= 0.001
        checks.append(
            Check(
                f"run time, M = {mtbf_h:g} h, event by event",
                source,
                f"{hours} h",
                "0.1 %, and in the 95 % interval",
                f"{events.mean:.2f} ± {events.half_width:.2f} h",
                inside and close,
            )
        )
        model = Memoryless(
            mtbf_s=mtbf_h * S_PER_H, outage_s=600, interval_s=best_min * 60, stall_s=300, work_s=500 * S_PER_H
        )
        walls = simulate(model, 50_000, np.random.default_rng(5)).wall_s / S_PER_H
        vector_h = float(walls.mean())
        checks.append(
            Check(
                f"run time, M = {mtbf_h:g} h, vectorised",
                source,
                f"{hours} h",
                "0.1 %",
                f"{vector_h:.2f} h",
                abs(vector_h / hours - 1) <= 0.001,
            )
        )
        formula_min = daly_interval_s(300, mtbf_h * S_PER_H) / 60
        found_min = best_interval_s(300, 600, mtbf_h * S_PER_H) / 60
        checks.append(
            Check(
                f"best interval, M = {mtbf_h:g} h",
                source,
                f"{best_min:g} min",
                "2 %",
                f"{formula_min:.1f} min (formula), {found_min:.1f} min (search)",
                max(abs(formula_min / best_min - 1), abs(found_min / best_min - 1)) <= 0.02,
            )
        )
    return checks


def mttf_checks(cores: Cores) -> list[Check]:
    """Mean time between failures at the rate of Meta's RSC-1, from simulated failures of 8-GPU nodes."""
    checks = []
    for gpus, hours in ((16_384, 1.8), (131_072, 0.23)):
        scenario = Scenario(
            cluster=ClusterConfig(nodes=gpus // 8),
            job=JobConfig(wall_h=2000 * hours),
            failures=Failures(causes=(Cause(name="node", per_1000_node_days=6.50),)),
            costs=Costs(detect_kill_s=0.0, cold_restart_s=0.0),
            policy="restart_disk",
            seed=6,
        )
        result = study(Case(scenario), cores, runs=4)
        got_h = result.wall_s.mean / result.interruptions.mean / S_PER_H
        exact_h = mttf_s(gpus // 8, 6.50) / S_PER_H
        checks.append(
            Check(
                f"MTTF of {gpus:,} GPUs",
                "arXiv 2410.21680",
                f"{hours} h ({exact_h:.3f} h by the law)",
                "3 %",
                f"{got_h:.3f} h",
                abs(got_h / exact_h - 1) <= 0.03 and abs(exact_h / hours - 1) <= 0.03,
            )
        )
    return checks


def llama3_checks(case: Case, cores: Cores, runs: int = 200) -> list[Check]:
    """54 days of Llama 3 as in configs/sim/llama3-16k.yaml."""
    result = study(case, cores, runs=runs)
    count = result.interruptions
    spread = 41
    return [
        Check(
            "Llama 3: unplanned interruptions",
            "Llama 3, table 5",
            f"{LLAMA3_UNPLANNED} ± {spread}",
            "mean within ± 41",
            f"{count.mean:.1f} ± {count.half_width:.1f} (95 % interval of the mean)",
            abs(count.mean - LLAMA3_UNPLANNED) <= spread,
        ),
        Check(
            "Llama 3: effective time",
            "Llama 3, section 3.3.4",
            "over 90 %",
            "lower end of the 95 % interval",
            f"{result.effective.mean:.2%} ± {result.effective.half_width:.2%}",
            result.effective.low > 0.9,
        ),
    ]


def ettr_checks(cores: Cores) -> list[Check]:
    """A job on 12,288 GPUs (1,536 nodes), restarts of 5 min (assumed), Daly's interval: how much time is effective."""
    cases = (
        (6.50, 300.0, "under 0.80", lambda x: x < 0.80),
        (6.50, 10.0, "about 0.9", lambda x: 0.87 <= x <= 0.93),
        (1.0, 300.0, "about 0.9", lambda x: 0.87 <= x <= 0.93),
    )
    return [_ettr(rate, write_s, target, holds, cores) for rate, write_s, target, holds in cases]


def _ettr(rate: float, write_s: float, target: str, holds: Callable[[float], bool], cores: Cores) -> Check:
    nodes, restart_s = 12_288 // 8, 300.0
    mtbf_s = mttf_s(nodes, rate)
    interval_s = daly_interval_s(write_s, mtbf_s)
    scenario = Scenario(
        cluster=ClusterConfig(nodes=nodes),
        job=JobConfig(work_h=500),
        failures=Failures(causes=(Cause(name="node", per_1000_node_days=rate),)),
        commit=Commit(every_s=interval_s, stall_s=write_s),
        costs=Costs(detect_kill_s=0.0, cold_restart_s=restart_s),
        policy="restart_disk",
        seed=7,
    )
    got = study(Case(scenario), cores, runs=50).effective
    formula = expected_ettr(1 / mtbf_s, interval_s, write_s, restart_s)
    return Check(
        f"ETTR, {rate:g} failures per 1,000 node-days, writes of {write_s:g} s",
        "arXiv 2410.21680",
        target,
        "under 0.80, or 0.87 to 0.93",
        f"{got.mean:.3f} ± {got.half_width:.3f} (their formula: {formula:.3f})",
        holds(got.mean),
    )


def gemini_checks(draws: int = 400_000) -> list[Check]:
    """Placement in groups: the formula to 4 digits, and drawn losses through the policy's own placement."""
    checks = []
    for machines, replicas, lost, target in (
        (16, 2, 2, 0.9333),
        (16, 2, 3, 0.80),
        (128, 2, 2, 0.9921),
        (1000, 2, 2, 0.999),
    ):
        formula = gemini_survival(machines, replicas, lost)
        drawn = drawn_survival(machines, replicas, lost, draws // 10 if machines > 16 else draws // 4)
        error = 4 * math.sqrt(target * (1 - target) / (draws // 10))
        checks.append(
            Check(
                f"Gemini: N = {machines}, m = {replicas}, k = {lost}",
                "Gemini, SOSP 2023",
                f"{target}",
                "4 digits",
                f"{formula:.4f} (drawn through the policy: {drawn:.4f})",
                abs(formula - target) < 0.5e-4 + 1e-9 and abs(drawn - formula) <= error,
            )
        )
    wasted_min = wasted_per_failure_s(42 * 60, 42 * 60, 42 * 60) / 60
    checks.append(
        Check(
            "Gemini: wasted time, MT-NLG over 20 Gb/s",
            "Gemini, SOSP 2023",
            "105 min",
            "exact",
            f"{wasted_min:.0f} min",
            wasted_min == 105,
        )
    )
    return checks


def drawn_survival(machines: int, replicas: int, lost: int, draws: int) -> float:
    """The share of drawn losses of `lost` machines at once after which every state still has a holder."""
    rng = np.random.default_rng(8)
    picks = rng.random((draws, machines)).argpartition(lost, axis=1)[:, :lost] if machines <= 128 else None
    kept = 0
    for draw in range(draws):
        chosen = picks[draw].tolist() if picks is not None else rng.choice(machines, lost, replace=False).tolist()
        kept += survives(chosen, machines, replicas, "group")
    return kept / draws


def agreement(cores: Cores) -> tuple[Study, Estimate]:
    """The kernel and the vectorised path on one memoryless case of fixed wall time: their goodputs."""
    scenario = Scenario(
        cluster=ClusterConfig(nodes=64),
        job=JobConfig(wall_h=200),
        failures=Failures(causes=(Cause(name="node", mtbf_h=64 * 4.0),)),
        commit=Commit(every_s=1200.0, stall_s=60.0, at_end=False),
        costs=Costs(detect_kill_s=30.0, cold_restart_s=400.0),
        policy="restart_disk",
        seed=9,
    )
    model = Memoryless(mtbf_s=4 * S_PER_H, outage_s=430.0, interval_s=1200.0, stall_s=60.0, wall_s=200 * S_PER_H)
    totals = simulate(model, 4000, np.random.default_rng(9))
    return study(Case(scenario), cores, runs=800), estimate(list(totals.useful_s / totals.wall_s))


def _hours(seconds: Estimate) -> Estimate:
    return Estimate(seconds.mean / S_PER_H, seconds.half_width / S_PER_H)
