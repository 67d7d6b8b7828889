"""The cut-down layout gives the plan of the whole one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ft_horovod.core.errors import QuorumLost
from ft_horovod.core.layout import Group, Layout
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover
from simulator.policies.condensed import Members, condense, worker


def whole(stages: list[Members], spares: list[int], goal: Goal, lost: set[int]) -> RecoveryPlan | str:
    groups = []
    for stage, members in enumerate(stages):
        names = [worker(node) for node in members]
        groups.append(Group(stage, names[0], tuple(names[1:])))
    layout = Layout(tuple(groups), tuple(map(worker, spares)))
    steps = {name: 0 for name in layout.members if name.slot not in lost}
    return planned(layout, goal, steps, lost)


def planned(layout: Layout, goal: Goal, steps: dict[object, int], lost: set[int]) -> RecoveryPlan | str:
    try:
        return recover(layout, goal, steps, lost=[name for name in layout.workers if name.slot in lost])
    except QuorumLost:
        return "quorum lost"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_small_plan_is_the_large_plan(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    total = sum(sizes)
    nodes = iter(data.draw(st.permutations(range(total))))
    stages = [dict.fromkeys(next(nodes) for _ in range(size)) for size in sizes]
    spares = list(range(total, total + data.draw(st.integers(0, 12))))
    wanted = tuple(size + data.draw(st.integers(0, 3)) for size in sizes)
    goal = Goal(wanted, data.draw(st.integers(1, sum(wanted))))
    lost = data.draw(st.sets(st.integers(0, total - 1), max_size=min(total, 8)))
    large = whole(stages, spares, goal, lost)
    layout, small_goal, living = condense(stages, spares, goal, lost)
    small = planned(layout, small_goal, dict.fromkeys(living, 0), lost)
    if isinstance(large, str) or isinstance(small, str):
        assert large == small
        return
    assert small.moves == large.moves
    assert small.promotions == large.promotions
    assert [transfer.targets for transfer in small.transfers] == [transfer.targets for transfer in large.transfers]
