"""Formulas of the literature, against which the simulation is held. Knows formulas only; all times in seconds.

The best interval between commits is in `ft_horovod.core.commit_interval`: live runs use it as well.
"""

from __future__ import annotations

import math


def daly_run_time_s(work_s: float, interval_s: float, stall_s: float, restart_s: float, mtbf_s: float) -> float:
    """Daly (2006), equation 20: exact expected wall time, M e^(R/M) (e^((tau+delta)/M) - 1) Ts / tau."""
    return mtbf_s * math.exp(restart_s / mtbf_s) * math.expm1((interval_s + stall_s) / mtbf_s) * work_s / interval_s


def best_interval_s(stall_s: float, restart_s: float, mtbf_s: float) -> float:
    """The interval that minimises `daly_run_time_s`, found by golden section between a stall and 100 M."""
    low, high = math.log(max(stall_s, 1e-9) / 100), math.log(100 * mtbf_s)
    ratio = (math.sqrt(5) - 1) / 2

    def cost(x: float) -> float:
        exponent = (math.exp(x) + stall_s) / mtbf_s
        return math.inf if exponent > 700 else math.expm1(exponent) / math.exp(x)

    left, right = high - ratio * (high - low), low + ratio * (high - low)
    while high - low > 1e-9:
        if cost(left) < cost(right):
            high, right = right, left
            left = high - ratio * (high - low)
        else:
            low, left = left, right
            right = low + ratio * (high - low)
    return math.exp((low + high) / 2)


def mttf_s(nodes: int, per_1000_node_days: float) -> float:
    """Mean time to failure of a job on so many nodes, when nodes fail independently (arXiv 2410.21680)."""
    return 86_400 * 1000 / (nodes * per_1000_node_days)


def expected_ettr(failures_per_s: float, interval_s: float, stall_s: float, restart_s: float) -> float:
    """arXiv 2410.21680: (1 - N r (u0 + dt/2)) / (1 + w/dt), effective training time; negative where it is not valid."""
    return (1 - failures_per_s * (restart_s + interval_s / 2)) / (1 + stall_s / interval_s)


def gemini_survival(machines: int, replicas: int, lost: int) -> float:
    """Gemini (SOSP 2023), corollary 1: chance that no state is gone after `lost` of `machines` fail at once.

    1 - N C(N-m, k-m) / (m C(N, k)), for groups of m; exact for m <= k < 2 m, a lower bound beyond; 1 for k < m.
    """
    if lost < replicas:
        return 1.0
    groups = machines / replicas
    return max(0.0, 1 - groups * math.comb(machines - replicas, lost - replicas) / math.comb(machines, lost))


def wasted_per_failure_s(commit_s: float, interval_s: float, retrieve_s: float) -> float:
    """Gemini (SOSP 2023), equation 1: mean time lost to one failure."""
    return commit_s + interval_s / 2 + retrieve_s
