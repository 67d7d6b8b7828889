"""The best interval: against Young's and Daly's own figures, and between the bounds of what is possible."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.commit_interval import (
    FREE_SHARE,
    LONGEST_AUTO_S,
    Bound,
    Interval,
    TierCost,
    choose_interval,
    daly_interval_s,
    expected_mtbf_s,
    young_interval_s,
)
from ft_horovod.core.commit_policy import CommitPolicy, Seconds, Steps, TierName
from simulator.closed_forms import best_interval_s, daly_run_time_s

DAY_S = 86_400.0
stalls = st.floats(1e-4, 100)
steps = st.floats(0.01, 10)
rates = st.floats(10, 1e7)
tiers = st.sampled_from(["memory", "disk"])


@pytest.mark.parametrize("mtbf_h", [6, 24, 100])
def test_dalys_formula_is_near_the_true_optimum(mtbf_h: float) -> None:
    """Commits of 5 minutes, as in section 5 of the paper: within 1 % of what a search of the exact time finds."""
    mtbf_s = mtbf_h * 3600
    best_s = best_interval_s(300, 600, mtbf_s)
    assert daly_interval_s(300, mtbf_s) == pytest.approx(best_s, rel=0.01)
    assert abs(young_interval_s(300, mtbf_s) - best_s) > abs(daly_interval_s(300, mtbf_s) - best_s)


@given(st.floats(0.001, 100), st.floats(1000, 1e6), st.floats(0.2, 5))
def test_no_other_interval_is_much_better(stall_s: float, mtbf_s: float, factor: float) -> None:
    chosen_s = daly_interval_s(stall_s, mtbf_s)
    time_s = daly_run_time_s(1.0, chosen_s, stall_s, 60, mtbf_s)
    assert time_s <= daly_run_time_s(1.0, chosen_s * factor, stall_s, 60, mtbf_s) * 1.0005


def test_a_commit_that_takes_longer_than_two_failures_apart() -> None:
    assert daly_interval_s(200.0, 100.0) == 100.0
    assert daly_interval_s(1e9, 100.0) == 100.0


@pytest.mark.parametrize(
    ("policy", "tier", "cost", "mtbf_s", "expected", "bound"),
    [
        (CommitPolicy(), "disk", None, DAY_S, 1, "unmeasured"),
        (CommitPolicy(), "disk", TierCost(0.05, 1.0), DAY_S, 186, "best"),  # sqrt(2 * 0.05 * 86,400) = 93 s
        (CommitPolicy(), "disk", TierCost(0.05, 200.0), DAY_S, 400, "write"),
        (CommitPolicy(), "disk", TierCost(0.05, 1.0), math.inf, 7200, "longest"),
        (CommitPolicy(), "disk", TierCost(600.0, 1.0), 1e9, 7200, "longest"),
        (CommitPolicy(), "disk", TierCost(0.0, 0.0), DAY_S, 1, "step"),
        (CommitPolicy(), "memory", TierCost(0.0, 1.0), DAY_S, 2, "write"),
        (CommitPolicy(), "memory", TierCost(0.0001, 0.1), DAY_S, 1, "step"),
        (CommitPolicy(), "memory", TierCost(0.005, 0.1), DAY_S, 10, "free"),  # 5 ms every 5 s are 0.1 %
        (CommitPolicy(), "memory", TierCost(0.1, 0.1), 100.0, 9, "best"),  # sqrt(2 * 0.1 * 100) - 0.1 = 4.4 s
        (CommitPolicy(memory=Steps(3)), "memory", TierCost(9.0, 0.1), 100.0, 3, "told"),
        (CommitPolicy(memory=Steps(1)), "memory", TierCost(0.01, 1.2), 100.0, 3, "write"),
        (CommitPolicy(memory=Steps(1)), "memory", None, 100.0, 1, "told"),
        (CommitPolicy(disk=Seconds(60)), "disk", TierCost(1.0, 2.0), 100.0, 120, "told"),
        (CommitPolicy(disk=Seconds(0.001)), "disk", TierCost(1.0, 0.1), 100.0, 1, "told"),
    ],
)
def test_choices(
    policy: CommitPolicy, tier: TierName, cost: TierCost | None, mtbf_s: float, expected: int, bound: Bound
) -> None:
    assert choose_interval(policy, tier, cost, 0.5, mtbf_s) == Interval(expected, expected * 0.5, bound)


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_off_is_never(tier: TierName) -> None:
    assert choose_interval(CommitPolicy("off", "off"), tier, TierCost(0.0, 0.0), 0.5, DAY_S) is None


@given(tiers, stalls, stalls, steps, rates)
def test_auto_stays_within_its_bounds(
    tier: TierName, stall_s: float, complete_s: float, step_s: float, mtbf_s: float
) -> None:
    chosen = choose_interval(CommitPolicy(), tier, TierCost(stall_s, complete_s), step_s, mtbf_s)
    assert chosen is not None
    assert chosen.steps >= 1
    assert chosen.seconds == pytest.approx(chosen.steps * step_s)
    assert chosen.seconds >= complete_s * 0.999
    if chosen.bound != "write":
        assert chosen.seconds <= LONGEST_AUTO_S + step_s
        assert chosen.seconds <= max(step_s, daly_interval_s(stall_s, mtbf_s)) + step_s
    if tier == "memory" and chosen.bound not in ("step", "write"):
        assert chosen.seconds <= stall_s / FREE_SHARE + step_s


@given(tiers, stalls, stalls, steps, rates, st.floats(1, 100))
def test_more_failures_never_mean_fewer_commits(
    tier: TierName, stall_s: float, complete_s: float, step_s: float, mtbf_s: float, factor: float
) -> None:
    stall_s = min(
        stall_s, mtbf_s / 10
    )  # where a commit takes about as long as nothing fails, the formula is not monotone
    cost = TierCost(stall_s, complete_s)
    rarely = choose_interval(CommitPolicy(), tier, cost, step_s, mtbf_s * factor)
    often = choose_interval(CommitPolicy(), tier, cost, step_s, mtbf_s)
    assert rarely is not None
    assert often is not None
    assert often.steps <= rarely.steps


def test_what_was_thought_before_gives_way_to_what_is_seen() -> None:
    assert expected_mtbf_s(0, 0.0, DAY_S) == DAY_S
    assert expected_mtbf_s(0, DAY_S, DAY_S) == 2 * DAY_S
    assert expected_mtbf_s(10, 0.1 * DAY_S, DAY_S) == pytest.approx(0.1 * DAY_S)
    assert expected_mtbf_s(1000, 1000.0, DAY_S) < 100


@pytest.mark.parametrize(("step_s", "mtbf_s"), [(0.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, -1.0)])
def test_times_that_cannot_be(step_s: float, mtbf_s: float) -> None:
    with pytest.raises(ValueError, match="both must be more than 0"):
        choose_interval(CommitPolicy(), "disk", None, step_s, mtbf_s)


@pytest.mark.parametrize(("stall_s", "complete_s"), [(-1.0, 0.0), (0.0, -1.0), (math.nan, 0.0), (0.0, math.inf)])
def test_costs_that_cannot_be(stall_s: float, complete_s: float) -> None:
    with pytest.raises(ValueError, match="a commit cannot stall for"):
        TierCost(stall_s, complete_s)
