"""Layouts: what they refuse, whom they name, how the first one is dealt."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from recovery_world import layouts, read_layout, worker, workers, write_layout

from ft_horovod.core.identity import Role, WorkerId
from ft_horovod.core.layout import Group, Layout, View, place


@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 4))
def test_the_first_layout_is_dealt_in_turn(stages: int, more: int, spares: int) -> None:
    members = stages + more
    roster = [WorkerId("host", slot) for slot in range(members + spares)]
    layout = place(roster, members, stages)
    assert [group.leader for group in layout.groups] == roster[:stages]
    assert sorted(layout.members) == roster[:members]
    assert list(layout.spares) == roster[members:]
    sizes = [len(group.members) for group in layout.groups]
    assert max(sizes) - min(sizes) <= 1
    assert all(list(group.members) == sorted(group.members) for group in layout.groups), "the roster's order is kept"


@pytest.mark.parametrize(("roster", "members", "stages"), [(3, 4, 1), (3, 2, 3), (3, 3, 0), (0, 0, 1), (3, 0, 0)])
def test_a_stage_without_anybody_cannot_be_placed(roster: int, members: int, stages: int) -> None:
    with pytest.raises(ValueError, match=f"{roster} workers cannot give {members} members to {stages} stages"):
        place([WorkerId("host", slot) for slot in range(roster)], members, stages)


@given(layouts())
def test_every_worker_has_one_role(layout: Layout) -> None:
    assert len(set(layout.workers)) == len(layout.workers) == len(list(layout))
    for group in layout.groups:
        assert layout.role(group.leader) == (Role.LEADER, group.stage)
        assert all(layout.role(backup) == (Role.BACKUP, group.stage) for backup in group.backups)
    assert all(layout.role(spare) == (Role.SPARE, None) for spare in layout.spares)
    with pytest.raises(KeyError, match="stranger:0 is not in the layout"):
        layout.role(WorkerId("stranger", 0))


@given(layouts())
def test_layouts_survive_json_and_the_tests_notation(layout: Layout) -> None:
    view = View(3, layout)
    assert msgspec.json.decode(msgspec.json.encode(view), type=View) == view
    assert read_layout(write_layout(layout)) == layout


A, B = worker("a"), worker("b")


@pytest.mark.parametrize(
    ("groups", "spares", "problem"),
    [
        ((), workers("a"), "one group for each stage"),
        ((Group(1, A),), (), "one group for each stage"),
        ((Group(1, A), Group(0, B)), (), "one group for each stage"),
        ((Group(0, A), Group(0, B)), (), "one group for each stage"),
        ((Group(0, A, (A,)),), (), "stands twice"),
        ((Group(0, A), Group(1, B, (A,))), (), "stands twice"),
        ((Group(0, A),), workers("a"), "stands twice"),
        ((Group(0, A),), workers("bb"), "stands twice"),
    ],
)
def test_wrong_layouts_cannot_be_built_or_read(
    groups: tuple[Group, ...], spares: tuple[WorkerId, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Layout(groups, spares)
    text = msgspec.json.encode({"groups": groups, "spares": spares})
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.json.decode(text, type=Layout)
