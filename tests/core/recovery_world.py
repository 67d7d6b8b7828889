"""What the tests of the recovery plan share: random situations, a notation for them, and what every plan must keep.

The notation: one letter a worker; `ab/c|xy` is a layout of two stages, `a` leads the first and `b` backs it up, `c` is
alone in the second, `x` and `y` are spares.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Group, Layout
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that `recover` is told."""

    layout: Layout
    goal: Goal
    steps: dict[WorkerId, int]
    lost: tuple[WorkerId, ...] = ()
    leaving: tuple[WorkerId, ...] = ()
    joining: tuple[WorkerId, ...] = ()

    def plan(self) -> RecoveryPlan:
        return recover(self.layout, self.goal, self.steps, lost=self.lost, leaving=self.leaving, joining=self.joining)

    @property
    def gone(self) -> set[WorkerId]:
        return {*self.lost, *self.leaving}

    @property
    def before(self) -> list[list[WorkerId]]:
        return [list(group.members) for group in self.layout.groups]

    @property
    def waiting(self) -> list[WorkerId]:
        """Who could come in, in this order."""
        return [worker for worker in (*self.layout.spares, *self.joining) if worker not in self.gone]


def worker(letter: str) -> WorkerId:
    return WorkerId(letter, 0)


def workers(letters: str) -> tuple[WorkerId, ...]:
    return tuple(map(worker, letters))


def read_layout(text: str) -> Layout:
    stages, _, spares = text.partition("|")
    groups = [Group(i, worker(s[0]), workers(s[1:])) for i, s in enumerate(stages.split("/"))]
    return Layout(tuple(groups), workers(spares))


def write_layout(layout: Layout) -> str:
    stages = "/".join("".join(member.host for member in group.members) for group in layout.groups)
    return stages + ("|" + "".join(spare.host for spare in layout.spares) if layout.spares else "")


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """1 to 5 stages of 1 to 4 members, 0 to 4 spares, in no order of their names."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    spares = draw(st.integers(0, 4))
    names = draw(st.permutations("abcdefghijklmnopqrstuvwx"[: sum(sizes) + spares]))
    groups, at = [], 0
    for stage, size in enumerate(sizes):
        leader, *backups = workers("".join(names[at : at + size]))
        groups.append(Group(stage, leader, tuple(backups)))
        at += size
    return Layout(tuple(groups), workers("".join(names[at:])))


def goals(stages: int) -> st.SearchStrategy[Goal]:
    members = st.lists(st.integers(1, 5), min_size=stages, max_size=stages)
    return members.flatmap(lambda want: st.builds(Goal, st.just(tuple(want)), st.integers(1, max(1, sum(want) // 2))))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any layout and goal; some are lost, leave, join or both; steps differ by one at most, some have no state yet."""
    layout = draw(layouts())
    goal = draw(goals(len(layout.groups)))
    joining = workers("".join(draw(st.sampled_from(["", "", "y", "yz", "zy"]))))
    fates = st.sampled_from(
        draw(st.sampled_from([["", "", "", "", "lost", "leaving", "lost leaving"], ["", "", "leaving"], ["", "lost"]]))
    )
    fate = {one: draw(fates) for one in (*layout.workers, *joining)}
    newest = draw(st.integers(0, 3))
    ages = st.sampled_from(draw(st.sampled_from([[newest], [newest] * 5 + [newest - 1], [newest, newest - 1]])))
    steps = {one: draw(ages) for one in layout.members if "lost" not in fate[one]}
    return Situation(
        layout=layout,
        goal=goal,
        steps=steps,
        lost=tuple(one for one in fate if "lost" in fate[one]),
        leaving=tuple(one for one in fate if "leaving" in fate[one]),
        joining=joining,
    )


def is_quorum_lost(s: Situation) -> bool:
    """Whether no plan can exist, counted without making one."""
    held = [[s.steps[one] for one in members if one not in s.lost] for members in s.before]
    newest = max((step for steps in held for step in steps), default=-1)
    if newest < 0 or any(newest not in steps for steps in held):
        return True
    staying = [sum(one not in s.gone for one in members) for members in s.before]
    empty = staying.count(0)
    to_give = sum(max(0, size - 1) for size in staying)
    wanted = sum(max(0, want - size) for want, size in zip(s.goal.members, staying, strict=True))
    in_the_end = sum(staying) + min(len(s.waiting), wanted)
    return empty > len(s.waiting) + to_give or in_the_end < s.goal.min_members


def check_plan(s: Situation, plan: RecoveryPlan) -> None:
    """Everything that holds for every plan."""
    check_workers(s, plan)
    check_moves(s, plan)
    check_transfers(s, plan)


def check_workers(s: Situation, plan: RecoveryPlan) -> None:
    """Nobody lost, invented or moved without a word; leaders that live stay."""
    assert plan.layout.members
    assert Counter(plan.layout.workers) == Counter({*s.layout.workers, *s.joining} - s.gone)
    assert [group.stage for group in plan.layout.groups] == [group.stage for group in s.layout.groups]
    movers = {move.worker for move in plan.moves}
    promotions = []
    for group, before in zip(plan.layout.groups, s.before, strict=True):
        stayers = [one for one in before if one not in s.gone and one not in movers]
        assert list(group.members[: len(stayers)]) == stayers, "who stays keeps the order, newcomers come last"
        assert movers.issuperset(group.members[len(stayers) :])
        if before[0] not in s.gone:
            assert group.leader == before[0]
        else:
            promotions.append((group.stage, group.leader, before[0]))
    assert [(p.stage, p.worker, p.instead_of) for p in plan.promotions] == promotions
    brought_in = [move.worker for move in plan.moves if move.from_stage is None]
    assert [*brought_in, *plan.layout.spares] == s.waiting, "spares come in in their order"


def check_moves(s: Situation, plan: RecoveryPlan) -> None:
    """The moves, one after another, are each needed, go to the neediest, and end at the new layout."""
    now = [[one for one in members if one not in s.gone] for members in s.before]
    assert len({move.worker for move in plan.moves}) == len(plan.moves), "nobody moves twice"
    left = len(s.waiting)
    for move in plan.moves:
        missing = [want - len(members) for want, members in zip(s.goal.members, now, strict=True)]
        empty = [stage for stage, members in enumerate(now) if not members]
        assert missing[move.stage] > 0, "no group gets more than it wants"
        if empty:
            assert move.stage in empty
        else:
            assert missing[move.stage] == max(missing)
        if move.from_stage is None:
            left -= 1
        else:
            assert not left, "spares come in before members move"
            assert now[move.from_stage][-1] == move.worker
            assert len(now[move.from_stage]) >= 2
            assert empty or missing[move.stage] - missing[move.from_stage] >= 2
            now[move.from_stage].remove(move.worker)
        now[move.stage].append(move.worker)
    assert [list(group.members) for group in plan.layout.groups] == now
    missing = [want - len(members) for want, members in zip(s.goal.members, now, strict=True)]
    assert not plan.layout.spares or max(missing) <= 0, "nobody waits while somebody is missing"
    for stage, members in enumerate(now):
        assert len(members) < 2 or max(missing) <= 0 or max(missing) - missing[stage] < 2, "evened out"


def check_transfers(s: Situation, plan: RecoveryPlan) -> None:
    """Played one after another, with room for one state in each worker, they bring the newest state to all members."""
    holds = {one: (stage, s.steps[one]) for stage, members in enumerate(s.before) for one in members if one in s.steps}
    assert plan.step == max(step for one, (_, step) in holds.items() if one not in s.lost)
    for transfer in plan.transfers:
        state = (transfer.stage, plan.step)
        assert transfer.source not in s.lost
        assert holds.get(transfer.source) == state
        if transfer.source in s.leaving:
            has_state = [one for one in s.before[transfer.stage] if holds.get(one) == state and one not in s.lost]
            assert s.gone.issuperset(has_state), "who leaves gives only what nobody else has"
        assert transfer.targets
        for target in transfer.targets:
            assert holds.get(target) != state, "nobody receives what they have"
            holds[target] = state
    for group in plan.layout.groups:
        assert all(holds.get(member) == (group.stage, plan.step) for member in group.members)


def after(s: Situation, plan: RecoveryPlan, lost: tuple[WorkerId, ...] = ()) -> Situation:
    """The situation once `plan` was carried out, with further losses."""
    steps = dict.fromkeys(plan.layout.members, plan.step)
    return Situation(layout=plan.layout, goal=s.goal, steps=steps, lost=lost)
