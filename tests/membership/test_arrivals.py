"""The books on newcomers: who is let in, and who is sent away."""

from __future__ import annotations

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.arrivals import Arrivals
from ft_horovod.membership.rounds import Member, Outcome, Said

HOST, OTHER = WorkerId("here", 0), WorkerId("here", 1)
FIRST, SECOND = WorkerId("here", 7, 1), WorkerId("here", 8, 1)


def member(worker: WorkerId) -> Member:
    return Member(worker, f"127.0.0.1:{worker.slot}")


def outcome(*world: WorkerId, joining: tuple[WorkerId, ...] = ()) -> Outcome:
    return Outcome(1, tuple(Said(member(worker), "facts") for worker in world), tuple(map(member, joining)))


def invited(*newcomers: WorkerId) -> Arrivals:
    arrivals = Arrivals(lambda _newcomers: None)
    assert arrivals.invite(newcomers, HOST, starts=False) == []
    return arrivals


def test_only_the_host_starts_them() -> None:
    started: list[WorkerId] = []
    for starts in (False, True):
        Arrivals(started.extend).invite([FIRST], HOST, starts=starts)
    assert started == [FIRST]


def test_all_must_be_at_the_door() -> None:
    arrivals = invited(FIRST, SECOND)
    arrivals.knocked(member(SECOND))
    assert not arrivals.ready
    arrivals.knocked(member(FIRST))
    assert arrivals.ready
    assert arrivals.candidates == (member(FIRST), member(SECOND))  # in the order of the invitation


def test_whoever_leaves_the_door_is_not_let_in() -> None:
    arrivals = invited(FIRST)
    arrivals.knocked(member(FIRST))
    arrivals.lose(FIRST)
    assert not arrivals.ready


def test_an_uninvited_worker_is_no_candidate() -> None:
    arrivals = invited(FIRST)
    arrivals.knocked(member(SECOND))
    assert arrivals.candidates == ()


def test_a_later_invitation_withdraws_the_earlier() -> None:
    arrivals = invited(FIRST)
    arrivals.knocked(member(FIRST))
    assert arrivals.invite([SECOND], HOST, starts=False) == [FIRST]
    assert arrivals.candidates == ()


def test_the_loss_of_the_host_makes_it_void_at_once() -> None:
    arrivals = invited(FIRST)
    arrivals.knocked(member(FIRST))
    arrivals.lose(HOST)
    assert arrivals.candidates == ()
    assert arrivals.after(outcome(OTHER)) == [FIRST]
    assert not arrivals.waiting


def test_the_loss_of_another_does_not() -> None:
    arrivals = invited(FIRST)
    arrivals.knocked(member(FIRST))
    arrivals.lose(OTHER)
    assert arrivals.after(outcome(HOST)) == []
    assert arrivals.ready


def test_who_comes_after_the_others_were_let_in_is_sent_away() -> None:
    arrivals = invited(FIRST, SECOND)
    arrivals.knocked(member(FIRST))
    arrivals.after(outcome(HOST, joining=(FIRST,)))
    assert not arrivals.waiting
    assert arrivals.knocked(member(SECOND)) == [SECOND]
