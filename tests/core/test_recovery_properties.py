"""What holds for every recovery plan, whatever is lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection
from dataclasses import replace

import msgspec
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from recovery_world import (
    Situation,
    after,
    check_plan,
    check_transfers,
    is_quorum_lost,
    layouts,
    read_layout,
    situations,
    worker,
)

from ft_horovod.core.errors import QuorumLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover

MANY = settings(max_examples=250)


def plan_or_assume(s: Situation) -> RecoveryPlan:
    try:
        return s.plan()
    except QuorumLost:
        assume(False)
        raise


@MANY
@given(situations())
def test_a_plan_is_made_exactly_when_one_is_possible_and_keeps_all_rules(s: Situation) -> None:
    if is_quorum_lost(s):
        event("quorum lost")
        with pytest.raises(QuorumLost):
            s.plan()
    else:
        plan = s.plan()
        event(f"moves between groups: {any(move.from_stage is not None for move in plan.moves)}")
        check_plan(s, plan)


@given(situations(), st.randoms(use_true_random=False))
def test_the_plan_depends_on_no_order_of_sets_or_mappings(s: Situation, rng: random.Random) -> None:
    def outcome(
        lost: Collection[WorkerId], leaving: Collection[WorkerId], steps: dict[WorkerId, int]
    ) -> RecoveryPlan | str:
        try:
            return recover(s.layout, s.goal, steps, lost=lost, leaving=leaving, joining=s.joining)
        except QuorumLost as error:
            return str(error)

    first = outcome(s.lost, s.leaving, s.steps)
    lost, leaving, steps = list(s.lost), list(s.leaving), list(s.steps.items())
    rng.shuffle(lost)
    rng.shuffle(leaving)
    rng.shuffle(steps)
    again = outcome(lost * 2, frozenset(leaving), dict(steps))
    assert first == again
    assert msgspec.json.encode(first) == msgspec.json.encode(again)


@given(situations())
def test_strangers_and_steps_of_those_who_hold_nothing_change_nothing(s: Situation) -> None:
    stranger = WorkerId("stranger", 3)
    others = dict.fromkeys((*s.layout.spares, *s.joining, *s.lost, stranger), 99)
    told_more = replace(s, lost=(*s.lost, stranger), leaving=(*s.leaving, stranger), steps={**others, **s.steps})
    assume(not is_quorum_lost(s))
    assert told_more.plan() == s.plan()


@MANY
@given(situations())
def test_a_plan_carried_out_needs_no_other(s: Situation) -> None:
    plan = plan_or_assume(s)
    again = after(s, plan).plan()
    assert again == RecoveryPlan(plan.layout, plan.step)


@MANY
@given(situations(), st.data())
def test_a_second_loss_after_the_first_loses_nobody_else(s: Situation, data: st.DataObject) -> None:
    plan = plan_or_assume(s)
    second = after(s, plan, lost=tuple(data.draw(st.sets(st.sampled_from(plan.layout.workers), max_size=2))))
    assume(not is_quorum_lost(second))
    replanned = second.plan()
    check_plan(second, replanned)
    assert set(replanned.layout.workers) == {*s.layout.workers, *s.joining} - s.gone - set(second.lost)


@MANY
@given(situations(), st.data())
def test_a_loss_between_two_transfers_never_takes_a_state_for_another(s: Situation, data: st.DataObject) -> None:
    """Whoever has not received its state says -1. The next plan is right, or there is none."""
    plan = plan_or_assume(s)
    done = data.draw(st.integers(0, len(plan.transfers)))
    steps = {one: s.steps[one] for one in plan.layout.members if one in s.steps}
    steps |= dict.fromkeys((move.worker for move in plan.moves), -1)
    for transfer in plan.transfers[:done]:
        steps |= dict.fromkeys(transfer.targets, plan.step)
    lost = tuple(data.draw(st.sets(st.sampled_from(plan.layout.workers), max_size=2)))
    second = replace(after(s, plan, lost=lost), steps=steps)
    if is_quorum_lost(second):
        with pytest.raises(QuorumLost):
            second.plan()
    else:
        replanned = second.plan()
        check_plan(second, replanned)
        assert replanned.step in (plan.step, plan.step - 1)


@given(layouts(), st.integers(0, 9), st.data())
def test_without_a_loss_a_complete_layout_stays(layout: Layout, step: int, data: st.DataObject) -> None:
    goal = Goal(tuple(data.draw(st.integers(1, len(group.members))) for group in layout.groups))
    s = Situation(layout=layout, goal=goal, steps=dict.fromkeys(layout.members, step))
    assert s.plan() == RecoveryPlan(layout, step)


@given(situations())
def test_with_enough_workers_the_goal_is_met(s: Situation) -> None:
    plan = plan_or_assume(s)
    staying = [sum(one not in s.gone for one in members) for members in s.before]
    wanted = sum(max(0, want - size) for want, size in zip(s.goal.members, staying, strict=True))
    assume(wanted <= len(s.waiting))
    for group, want, size in zip(plan.layout.groups, s.goal.members, staying, strict=True):
        assert len(group.members) == max(want, size)


@given(layouts())
def test_one_lost_leader_moves_nobody_but_its_first_backup_up(layout: Layout) -> None:
    group = layout.groups[-1]
    assume(group.backups)
    one = Situation(
        layout=msgspec.structs.replace(layout, spares=()),
        goal=Goal(tuple(len(group.members) for group in layout.groups)),
        steps=dict.fromkeys(layout.members, 4),
        lost=(group.leader,),
    )
    plan = one.plan()
    assert plan.layout.groups[:-1] == layout.groups[:-1]
    assert plan.layout.groups[-1].members == group.backups
    assert not plan.moves
    assert not plan.transfers


def test_the_check_of_transfers_can_fail() -> None:
    """The harness itself: state overwritten before it was given away is noticed."""
    s = Situation(
        layout=read_layout("c/ab"),
        goal=Goal((1, 2)),
        steps={worker("c"): 5, worker("a"): 4, worker("b"): 5},
        leaving=(worker("c"),),
    )
    plan = s.plan()
    check_transfers(s, plan)
    assert len(plan.transfers) == 2
    with pytest.raises(AssertionError):
        check_transfers(s, msgspec.structs.replace(plan, transfers=plan.transfers[::-1]))


@pytest.mark.parametrize("shape", ["a", "ab", "a/b", "a/bc", "ab/c", "ab/cd", "a/bcd", "abc/d", "a/bc/d", "ab/c/d"])
def test_all_small_situations(shape: str) -> None:
    """Each worker stays, leaves or is lost, with the newest state or the one before, with and without a spare."""
    fates = [("", 1), ("", 0), ("leaving", 1), ("leaving", 0), ("lost", 0)]
    for spare, want in itertools.product(["", "|s"], [1, 3]):
        layout = read_layout(shape + spare)
        goal = Goal((want,) * len(layout.groups))
        for drawn in itertools.product(fates, repeat=len(layout.members)):
            told = list(zip(layout.members, drawn, strict=True))
            s = Situation(
                layout=layout,
                goal=goal,
                steps={one: step for one, (_, step) in told},
                lost=tuple(one for one, (fate, _) in told if fate == "lost"),
                leaving=tuple(one for one, (fate, _) in told if fate == "leaving"),
            )
            try:
                plan = s.plan()
            except QuorumLost:
                assert is_quorum_lost(s)
            else:
                assert not is_quorum_lost(s)
                check_plan(s, plan)
