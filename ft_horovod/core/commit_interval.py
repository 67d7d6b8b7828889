"""The best interval between commits, from what a commit costs and how often things fail.

Knows formulas, and times and rates that others measured; it knows no clock.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ft_horovod.core.commit_policy import CommitPolicy, Steps, TierName

LONGEST_AUTO_S = 3600.0  # where nothing ever fails, auto still commits once an hour
FREE_SHARE = 0.001  # of the time: host memory may take so much even where fewer copies would be the optimum
HOST_MTBF_S = 86_400 * 1000 / 6.5  # before anything is known: 6.5 failures for 1,000 node-days (arXiv 2410.21680)

Bound = Literal["best", "free", "longest", "step", "write", "told", "unmeasured"]


class TierCost(msgspec.Struct, frozen=True):
    """One commit of a tier as measured: seconds that training loses to it, and seconds until it can be relied on."""

    stall_s: float
    complete_s: float

    def __post_init__(self) -> None:
        if not (0 <= self.stall_s < math.inf and 0 <= self.complete_s < math.inf):
            raise ValueError(f"a commit cannot stall for {self.stall_s} s and take {self.complete_s} s")


class Interval(msgspec.Struct, frozen=True):
    """How often to commit, and what decided it.

    `best`: Daly's interval. `free`: more often than that, as it costs next to nothing. `longest`: nothing fails.
    `step`, `write`: it cannot be more often. `told`: the user. `unmeasured`: at once, to find out what it costs.
    """

    steps: int
    seconds: float
    bound: Bound


def young_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Young (CACM 1974): the first-order best interval between commits, sqrt(2 stall M)."""
    return math.sqrt(2 * stall_s * mtbf_s)


def daly_interval_s(stall_s: float, mtbf_s: float) -> float:
    """Daly (FGCS 2006), equation 37: the higher-order best interval; M when a commit takes 2 M or more."""
    if stall_s >= 2 * mtbf_s:
        return mtbf_s
    x = stall_s / (2 * mtbf_s)
    return math.sqrt(2 * stall_s * mtbf_s) * (1 + math.sqrt(x) / 3 + x / 9) - stall_s


def expected_mtbf_s(failures: int, observed_s: float, prior_mtbf_s: float) -> float:
    """Mean time between failures after `failures` in `observed_s`, when `prior_mtbf_s` was thought before.

    The belief counts like one failure in `prior_mtbf_s` seconds: a gamma distribution of shape 1 over the rate.
    """
    return (prior_mtbf_s + observed_s) / (1 + failures)


def choose_interval(
    policy: CommitPolicy, tier: TierName, cost: TierCost | None, step_s: float, mtbf_s: float
) -> Interval | None:
    """How often `tier` commits; None when it is off.

    `cost` is None until a first commit is measured, `step_s` the time of a step without commits, `mtbf_s` the mean time
    between those failures that only this tier or a slower one survives. Each tier is chosen alone: to first order
    training loses stall / interval + interval / (2 mtbf) to each, and a sum has its least where each part has. However
    often it is told, a commit waits for the one before.
    """
    if not (0 < step_s < math.inf and mtbf_s > 0):
        raise ValueError(f"a step of {step_s} s and a failure every {mtbf_s} s: both must be more than 0")
    rhythm = policy.memory if tier == "memory" else policy.disk
    if rhythm == "off":
        return None
    if rhythm == "auto":
        wanted_s, bound = _auto(tier, cost, step_s, mtbf_s)
    else:
        wanted_s = rhythm.count * step_s if isinstance(rhythm, Steps) else rhythm.seconds
        bound = "told"
    steps = max(1, round(wanted_s / step_s))
    least = math.ceil(cost.complete_s / step_s - 1e-9) if cost else 1
    if steps < least:
        steps, bound = least, "write"
    return Interval(steps, steps * step_s, bound)


def _auto(tier: TierName, cost: TierCost | None, step_s: float, mtbf_s: float) -> tuple[float, Bound]:
    if cost is None:
        return step_s, "unmeasured"
    if cost.stall_s == 0:
        return step_s, "step"
    wanted_s: float = LONGEST_AUTO_S
    bound: Bound = "longest"
    if mtbf_s < math.inf and (best_s := daly_interval_s(cost.stall_s, mtbf_s)) < wanted_s:
        wanted_s, bound = best_s, "best"
    if tier == "memory" and (free_s := cost.stall_s / FREE_SHARE) < wanted_s:
        wanted_s, bound = free_s, "free"
    return (wanted_s, bound) if wanted_s > step_s else (step_s, "step")
