"""Failures and operators in, hosts out. The clock is a number here."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from launch.discovery.hosts import HostSlots
from launch.discovery.ledger import (
    MAX_FAILURES,
    Decision,
    Ledger,
    Policy,
    decide,
    exclude,
    prune,
    readmit,
    report_failure,
)

POLICY = Policy(failure_limit=3, window_s=100, cooldown_s=10, cooldown_cap_s=35, forget_s=1000)
FOUND = (HostSlots("a", 4), HostSlots("b", 4))


def after(*times_s: float, host: str = "a") -> Ledger:
    """The ledger after a death on `host` at each of these times."""
    ledger = Ledger()
    for slot, at_s in enumerate(times_s):
        ledger = report_failure(ledger, host, slot, at_s)
    return ledger


def slots(ledger: Ledger, now_s: float, policy: Policy = POLICY) -> dict[str, int]:
    return {one.host: one.slots for one in decide(ledger, FOUND, (), now_s, policy).hosts}


def test_nothing_is_held_against_anybody() -> None:
    assert decide(Ledger(), FOUND, (), 0, POLICY) == Decision(FOUND, ())


def test_one_dead_worker_costs_one_slot_until_its_cooldown_is_over() -> None:
    ledger = after(50)
    assert slots(ledger, 50) == {"a": 3, "b": 4}
    assert slots(ledger, 59.9) == {"a": 3, "b": 4}
    assert slots(ledger, 60) == {"a": 4, "b": 4}


def test_a_second_death_costs_a_second_slot_for_twice_as_long() -> None:
    ledger = after(50, 51)
    assert slots(ledger, 52)["a"] == 2
    assert slots(ledger, 61)["a"] == 3
    assert slots(ledger, 70.9)["a"] == 3
    assert slots(ledger, 71)["a"] == 4


def test_repeated_deaths_cost_the_host_until_its_cooldown_is_over() -> None:
    ledger = after(50, 51, 52)
    assert slots(ledger, 52) == {"b": 4}
    assert slots(ledger, 61.9) == {"b": 4}
    assert slots(ledger, 62) == {"a": 4, "b": 4}


def test_deaths_far_apart_are_not_repeated() -> None:
    assert slots(after(0, 60, 120), 120) == {"a": 3, "b": 4}


def test_the_rest_of_a_host_that_is_out_is_not_counted_again() -> None:
    assert slots(after(50, 51, 52, 53, 54, 55), 62) == {"a": 4, "b": 4}


def test_the_cooldown_of_a_host_doubles_up_to_its_cap() -> None:
    times_s: list[float] = []
    ends_s = []
    start_s = 0.0
    for _ in range(4):
        times_s += [start_s, start_s + 1, start_s + 2]
        ledger = after(*times_s)
        ends_s.append(next(out.until_s for out in decide(ledger, FOUND, (), start_s + 2, POLICY).out) or 0)
        start_s = ends_s[-1] + 1
        assert slots(ledger, ends_s[-1] - 0.1) == {"b": 4}
        assert slots(ledger, ends_s[-1]) == {"a": 4, "b": 4}
    starts = [times_s[2], times_s[5], times_s[8], times_s[11]]
    assert [end - begin for begin, end in zip(starts, ends_s, strict=True)] == [10, 20, 35, 35]


def test_a_host_that_was_well_for_long_begins_with_the_first_cooldown() -> None:
    ledger = after(0, 1, 2, 2000, 2001, 2002)
    assert slots(ledger, 2011.9) == {"b": 4}
    assert slots(ledger, 2012) == {"a": 4, "b": 4}


def test_horovods_way_is_a_limit_of_one_and_no_return() -> None:
    policy = Policy(failure_limit=1, cooldown_s=math.inf)
    decision = decide(after(50), FOUND, (), 1e12, policy)
    assert decision.hosts == (HostSlots("b", 4),)
    assert decision.out[0].until_s is None
    assert prune(after(50), 1e12, policy) == after(50)


def test_two_reports_of_one_death_count_once() -> None:
    twice = report_failure(report_failure(Ledger(), "a", 1, 50), "a", 1, 50.5)
    assert slots(twice, 51)["a"] == 3
    unknown = report_failure(report_failure(Ledger(), "a", None, 50), "a", None, 50.5)
    assert slots(unknown, 51)["a"] == 2


def test_more_deaths_than_slots_leave_none() -> None:
    ledger = after(50, 51, host="a")
    decision = decide(ledger, (HostSlots("a", 1),), (), 52, POLICY)
    assert decision.hosts == ()
    assert [out.slots for out in decision.out] == [1]
    assert decision.out[0].until_s == 71  # the later of the two


def test_a_host_with_no_slots_is_not_used() -> None:
    assert decide(Ledger(), (HostSlots("a", 0), HostSlots("b", 1)), (), 0, POLICY).hosts == (HostSlots("b", 1),)


def test_operators_have_the_last_word() -> None:
    ledger = exclude(after(50), "a")
    assert slots(ledger, 1e9) == {"b": 4}
    assert slots(readmit(ledger, "a"), 50) == {"a": 4, "b": 4}
    assert slots(readmit(after(50, 51, 52), "a"), 53) == {"a": 4, "b": 4}
    assert exclude(ledger, "never-seen").excluded == {"a", "never-seen"}


def test_a_clock_that_was_set_back_does_not_keep_a_host_out() -> None:
    assert slots(after(1e9, 1e9, 1e9), 50) == {"a": 4, "b": 4}


def names(decision: Decision) -> list[str]:
    return [one.host for one in decision.hosts]


def test_known_hosts_keep_their_order_and_new_ones_go_behind() -> None:
    found = [HostSlots(name, 1) for name in ("new", "b", "a", "newer")]
    assert names(decide(Ledger(), found, ("a", "gone", "b"), 0, POLICY)) == ["a", "b", "new", "newer"]


def test_a_host_that_was_out_goes_behind_when_it_is_back() -> None:
    out = decide(after(50, 51, 52), FOUND, ("a", "b"), 52, POLICY)
    assert names(out) == ["b"]
    assert names(decide(after(50, 51, 52), FOUND, names(out), 62, POLICY)) == ["b", "a"]


def test_a_host_that_lost_a_slot_keeps_its_place() -> None:
    assert names(decide(after(50), FOUND, ("a", "b"), 51, POLICY)) == ["a", "b"]


def test_the_memory_is_bounded_and_forgets() -> None:
    ledger = after(*(float(at_s) for at_s in range(MAX_FAILURES + 10)))
    assert len(ledger.failures["a"]) == MAX_FAILURES
    assert prune(after(50), 51, POLICY) == after(50)
    assert prune(after(50), 50 + 100 + 1000 + 1, POLICY) == Ledger()
    assert prune(exclude(after(50), "a"), 1e9, POLICY).excluded == {"a"}


HOSTS = st.sampled_from("abcd")
DEATHS = st.lists(st.tuples(HOSTS, st.none() | st.integers(0, 3), st.floats(0, 3000)), max_size=30)


@given(DEATHS, st.lists(HOSTS, unique=True), st.lists(HOSTS), st.floats(0, 10_000))
def test_every_slot_is_used_or_accounted_for(
    deaths: list[tuple[str, int | None, float]], excluded: list[str], given_before: list[str], now_s: float
) -> None:
    ledger = Ledger(excluded=frozenset(excluded))
    for host, slot, at_s in deaths:
        ledger = report_failure(ledger, host, slot, at_s)
    found = [HostSlots(host, count) for count, host in enumerate("dbac")]
    decision = decide(ledger, found, given_before, now_s, POLICY)
    for one in found:
        used = sum(host.slots for host in decision.hosts if host.host == one.host)
        assert used + sum(out.slots for out in decision.out if out.host == one.host) == one.slots
    assert not set(excluded) & set(names(decision))
    assert all(out.until_s is None or now_s < out.until_s <= now_s + POLICY.window_s + 35 for out in decision.out)
    kept = [name for name in dict.fromkeys(given_before) if name in names(decision)]
    assert names(decision)[: len(kept)] == kept
    assert decide(prune(ledger, now_s, POLICY), found, given_before, now_s, POLICY) == decision
