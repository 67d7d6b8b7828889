"""A large layout, cut down to those whom a loss concerns, so that `core.recovery` plans it in microseconds.

Members that are neither leader nor lost are alike to the plan: as many may be left out of a group and of its goal as
enough others stay to move. tests/simulator checks that the plan of the whole layout is the same.
Knows layouts; decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Group, Layout
from ft_horovod.core.recovery import Goal

Members = dict[int, None]


def worker(node: int) -> WorkerId:
    """A simulated node's name in the layout."""
    return WorkerId("node", node)


def condense(
    stages: list[Members], spares: Iterable[int], goal: Goal, lost: Collection[int]
) -> tuple[Layout, Goal, list[WorkerId]]:
    """The layout and the goal without those who cannot matter, and the living members in it.

    Each group keeps its leader, its lost members and, last in the order of promotion, as many others as all groups
    together might need. As many spares are kept as could come in.
    """
    keep = sum(len(members) - size for members, size in zip(stages, goal.members, strict=True))
    room = max(4, 2 * (len(lost) + abs(keep)) + 2)
    groups, wanted, living, left_out = [], [], [], 0
    for stage, members in enumerate(stages):
        kept = _kept(members, lost, room)
        left_out += len(members) - len(kept)
        names = [worker(node) for node in kept]
        groups.append(Group(stage, names[0], tuple(names[1:])))
        wanted.append(goal.members[stage] - (len(members) - len(kept)))
        living += [name for name, node in zip(names, kept, strict=True) if node not in lost]
    waiting: list[WorkerId] = []
    for node in spares:
        if len(waiting) > room * len(stages):
            break
        waiting.append(worker(node))
    small = Goal(tuple(wanted), max(1, goal.min_members - left_out))
    return Layout(tuple(groups), tuple(waiting)), small, living


def _kept(members: Members, lost: Collection[int], room: int) -> list[int]:
    """The leader, its heir, whoever of the lost is in the group, and the last `room` of the others in their order."""
    if len(members) <= room + len(lost) + 2:
        return list(members)
    leader = next(iter(members))
    heir = next((node for node in members if node not in lost), leader)
    gone = [node for node in lost if node in members]
    last: list[int] = []
    for node in reversed(members):
        if len(last) >= room:
            break
        if node not in lost:
            last.append(node)
    # Where the lost stand does not matter, save that of the leader: they are taken out before anybody is chosen.
    return list(dict.fromkeys([leader, *gone, heir, *reversed(last)]))
