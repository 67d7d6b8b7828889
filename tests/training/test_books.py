"""The small state keepers of training: control lane, pace, outage, wishes, roster."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Group, Layout
from ft_horovod.membership.protocol import Facts, Report
from ft_horovod.training.control import Control
from ft_horovod.training.newcomers import Roster
from ft_horovod.training.outage import Outage
from ft_horovod.training.pace import Pace
from ft_horovod.training.wishes import Wishes

A, B, C, D = (WorkerId("a", slot) for slot in range(4))
counts, seconds = st.integers(0, 2**24), st.floats(0, 1e9, width=32)
digests = st.integers(0, 2**53)
controls = st.builds(Control, seconds, counts, seconds, counts, *[st.integers(0, 9)] * 7, digests)


@given(controls)
def test_the_control_lane_arrives_as_it_was_sent(control: Control) -> None:
    assert Control.from_tensor(control.to_tensor()) == control


@given(
    st.lists(st.builds(Control, samples=st.integers(0, 2**21), digest=st.integers(0, 2**52)), min_size=1, max_size=8)
)
def test_sums_of_counts_are_exact(parts: list[Control]) -> None:
    total = Control.from_tensor(torch.stack([part.to_tensor() for part in parts]).sum(0))
    assert (total.samples, total.digest) == (sum(p.samples for p in parts), sum(p.digest for p in parts))


@pytest.mark.parametrize("wish", ["leave", "invite", "grow", "ready"])
def test_any_wish_changes_the_membership(wish: str) -> None:
    assert Control(**{wish: 1}).wants_change
    assert not Control(loss=1.0, samples=3, digest=4, correct=2).wants_change


# How long steps take.


def test_a_disturbed_step_is_not_typical() -> None:
    pace = Pace()
    assert pace.begin(0)
    assert pace.finish()[1] == 0
    typical = pace.typical_s
    assert pace.begin(1)
    pace.disturb(1)
    assert not pace.begin(1)  # done again: its time goes on
    time.sleep(0.01)
    step_s, recovery_s = pace.finish()
    assert recovery_s == pytest.approx(step_s - typical)
    assert pace.typical_s == typical


def test_a_change_between_steps_disturbs_none() -> None:
    pace = Pace()
    pace.begin(0)
    pace.finish()
    pace.disturb(1)
    assert pace.begin(1)
    assert pace.finish()[1] == 0


# What a failure cost.


def facts(**seen: float) -> Facts:
    now = time.time()
    last_seen = {f"a:{slot[1:]}": now - ago for slot, ago in seen.items()}
    return Facts(3, (Report(worker=A, last_seen=last_seen, noticed_at=now - 0.1), Report(worker=B)))


def test_phases_of_a_failure_add_up() -> None:
    outage = Outage()
    outage.leave_step()
    outage.add([C, D], facts(_2=0.5, _3=0.2), {C: "kill", D: "hang"}, step=7, fallback_at=0.0)
    outage.book(shrink_s=0.01, replan_s=0.02)
    outage.book(restore_s=0.03, reinit_s=0.04)
    closed = outage.close()
    assert [(one["worker"], one["kind"], one["step"]) for one in closed] == [("a:2", "kill", 7), ("a:3", "hang", 7)]
    for one, detect_s in zip(closed, (0.5, 0.2), strict=True):
        assert one["detect_s"] == pytest.approx(detect_s, abs=0.02)
        phases = ("detect_s", "shrink_s", "replan_s", "restore_s", "reinit_s", "redo_s")
        booked = sum(float(str(one[phase])) for phase in phases)
        assert booked >= float(str(one["total_s"])) - 1e-9
    assert outage.close() == []


def test_a_failure_during_recovery_has_books_of_its_own() -> None:
    outage = Outage()
    outage.leave_step()
    outage.add([C], facts(_2=0.3), {C: "kill"}, step=7, fallback_at=0.0)
    outage.book(shrink_s=1.0)
    outage.add([D], facts(_3=0.1), {D: "lost"}, step=7, fallback_at=0.0)
    outage.book(shrink_s=2.0)
    first, second = outage.close()
    assert (first["shrink_s"], second["shrink_s"]) == (3.0, 2.0)


# Wishes.


def wishes(*, respawn: bool = True, ready: Callable[[], bool] = lambda: False, most: int = 64) -> Wishes:
    return Wishes(LayoutConfig(respawn=respawn, max_respawns=most), ready, lambda: False)


LAYOUT = Layout((Group(0, A, (B,)),))


def test_only_the_leader_of_a_group_that_misses_somebody_invites() -> None:
    for leads, goal, respawn, expected in (
        (True, 3, True, 1),
        (True, 2, True, 0),
        (False, 3, True, 0),
        (True, 3, False, 0),
    ):
        wish = wishes(respawn=respawn)
        wish.enter(LAYOUT, goal, leads=leads)
        assert wish.now(leaving=False, commit=False).invite == expected


def test_invitations_pause_and_end() -> None:
    wish = wishes(most=1)
    wish.enter(LAYOUT, 3, leads=True)
    asked = wish.now(leaving=False, commit=False)
    wish.heard(asked)
    assert wish.invites
    wish.enter(LAYOUT, 3, leads=True)
    assert not wish.invites
    assert wish.now(leaving=False, commit=False).invite == 0
    wish._next_invitation = 0.0  # the pause is over, but one was the most
    assert wish.now(leaving=False, commit=False).invite == 0


def test_everybody_may_leave_and_newcomers_are_told_of() -> None:
    wish = wishes(ready=lambda: True)
    wish.enter(LAYOUT, 2, leads=False)
    assert wish.now(leaving=True, commit=True) == Control(leave=1, commit=1)
    wish.enter(LAYOUT, 2, leads=True)
    assert wish.now(leaving=False, commit=False).ready == 1
    assert wish.now(leaving=False, commit=False).ready == 0  # not looked again at once


def test_a_wish_to_grow_lasts_until_it_is_heard() -> None:
    wish = wishes()
    wish.enter(LAYOUT, 2, leads=True)
    wish.grow()
    assert wish.now(leaving=False, commit=False).grow == 1
    assert wish.now(leaving=False, commit=False).grow == 1
    wish.heard(Control(grow=1))
    assert wish.invites
    assert wish.now(leaving=False, commit=False).grow == 0


# Names.


def test_newcomers_take_empty_slots_with_the_next_incarnation() -> None:
    roster = Roster()
    roster.learn(Facts(0, tuple(Report(worker=worker) for worker in (A, B, C))))
    layout = Layout((Group(0, A, ()),))
    names = roster.newcomers(layout, 4)
    assert names == (WorkerId("a", 1, 1), WorkerId("a", 2, 1), WorkerId("a", 3))
    roster.add(names)
    assert roster.newcomers(layout, 2) == (WorkerId("a", 1, 2),)
    assert roster.number(C) == 2
    assert roster.number(names[2]) == 5


def test_spares_count_and_a_full_group_needs_nobody() -> None:
    roster = Roster()
    roster.learn(Facts(0, tuple(Report(worker=worker) for worker in (A, B))))
    assert roster.newcomers(Layout((Group(0, A, ()),), (B,)), 2) == ()


def test_the_longest_roster_wins() -> None:
    roster = Roster()
    late = WorkerId("a", 1, 1)
    reports = (Report(worker=A, roster=(A, B, C)), Report(worker=B, roster=(A, B)), Report(worker=late))
    roster.learn(Facts(2, reports))
    assert roster.everybody == (A, B, C, late)
