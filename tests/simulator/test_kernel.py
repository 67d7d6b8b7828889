"""The clock and the ledger: order, exact sums, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.errors import InvalidTransition
from simulator.engine.kernel import Kernel
from simulator.engine.ledger import Account, Ledger

moments = st.tuples(st.integers(0, 50), st.integers(0, 4))


@given(st.lists(moments, max_size=60))
def test_events_come_by_time_then_rank_then_as_planned(planned: list[tuple[int, int]]) -> None:
    kernel: Kernel[int] = Kernel()
    for number, (time_ns, rank) in enumerate(planned):
        kernel.plan(time_ns, rank, number)
    taken = []
    while (event := kernel.take()) is not None:
        taken.append(event)
        assert kernel.now_ns == planned[event][0]
    assert taken == sorted(range(len(planned)), key=lambda number: (*planned[number], number))
    assert kernel.handled == len(planned)


@given(st.lists(st.tuples(moments, moments), max_size=30))
def test_events_planned_on_the_way_are_in_order_too(planned: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    kernel: Kernel[int] = Kernel()
    for first, _ in planned:
        kernel.plan(*first, 0)
    times = []
    for _, (later_ns, rank) in planned:
        assert kernel.take() is not None
        times.append(kernel.now_ns)
        kernel.plan(kernel.now_ns + later_ns, rank, 1)
    while kernel.take() is not None:
        times.append(kernel.now_ns)
    assert times == sorted(times)


def test_nothing_is_planned_for_the_past() -> None:
    kernel: Kernel[str] = Kernel()
    kernel.plan(5, 0, "a")
    kernel.take()
    kernel.plan(5, 0, "now is fine")
    with pytest.raises(InvalidTransition, match="it is 5 ns already"):
        kernel.plan(4, 0, "b")


@given(st.lists(st.tuples(st.sampled_from(list(Account)), st.integers(0, 10**18)), max_size=40))
def test_accounts_add_up_to_the_wall_time(bookings: list[tuple[Account, int]]) -> None:
    ledger = Ledger()
    for account, amount_ns in bookings:
        assert ledger.book(account, ledger.closed_ns + amount_ns) == amount_ns
    ledger.move(Account.USEFUL, Account.REDONE, ledger[Account.USEFUL] // 3)
    ledger.check()
    assert sum(ledger[account] for account in Account) == ledger.closed_ns == sum(amount for _, amount in bookings)


def test_a_ledger_refuses_the_past_and_what_is_not_there() -> None:
    ledger = Ledger()
    ledger.book(Account.USEFUL, 10)
    with pytest.raises(InvalidTransition, match="booked until 10 ns already"):
        ledger.book(Account.IDLE, 9)
    with pytest.raises(InvalidTransition, match="11 ns are not in USEFUL"):
        ledger.move(Account.USEFUL, Account.REDONE, 11)
    with pytest.raises(InvalidTransition, match="are not in WAITING"):
        ledger.move(Account.WAITING, Account.REDONE, -1)
