"""Who does what in one epoch: groups of a leader and its backups, and spares.

This module describes a layout and places a first one. What becomes of it after a loss is `recovery`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from ft_horovod.core.identity import Role, WorkerId


class Group(msgspec.Struct, frozen=True):
    """The workers that hold one stage of the model. With one stage every member computes."""

    stage: int
    leader: WorkerId
    backups: tuple[WorkerId, ...] = ()

    @property
    def members(self) -> tuple[WorkerId, ...]:
        """The leader first, then the backups in the order in which they would be promoted."""
        return (self.leader, *self.backups)


class Layout(msgspec.Struct, frozen=True):
    """All groups, one for each stage in order, and the spares in the order in which they come in."""

    groups: tuple[Group, ...]
    spares: tuple[WorkerId, ...] = ()

    def __post_init__(self) -> None:
        if not self.groups or [group.stage for group in self.groups] != list(range(len(self.groups))):
            raise ValueError("a layout has one group for each stage 0, 1, 2, ...")
        everyone = [*self.members, *self.spares]
        if len(set(everyone)) != len(everyone):
            raise ValueError("a worker stands twice in the layout")

    @property
    def members(self) -> tuple[WorkerId, ...]:
        """Every worker of every group, stage by stage."""
        return tuple(worker for group in self.groups for worker in group.members)

    @property
    def workers(self) -> tuple[WorkerId, ...]:
        """Every worker, spares last."""
        return (*self.members, *self.spares)

    def role(self, worker: WorkerId) -> tuple[Role, int | None]:
        """A worker's role and its stage (None for a spare). Raises KeyError for a stranger."""
        for group in self.groups:
            if worker == group.leader:
                return Role.LEADER, group.stage
            if worker in group.backups:
                return Role.BACKUP, group.stage
        if worker in self.spares:
            return Role.SPARE, None
        raise KeyError(f"{worker} is not in the layout")

    def __iter__(self) -> Iterator[WorkerId]:
        return iter(self.workers)


def place(roster: Sequence[WorkerId], members: int, stages: int = 1) -> Layout:
    """The first layout: the first `members` of the roster dealt to the stages in turn, the rest spares.

    Raises ValueError when a stage would get nobody.
    """
    if not 1 <= stages <= members <= len(roster):
        raise ValueError(f"{len(roster)} workers cannot give {members} members to {stages} stages")
    return place_groups(roster, [len(range(stage, members, stages)) for stage in range(stages)])


def place_groups(roster: Sequence[WorkerId], sizes: Sequence[int]) -> Layout:
    """The first layout with groups of these sizes, dealt in rounds: all leaders first, then all first backups, ...

    So a worker's number tells its stage, and on a roster ordered by host a stage's members are on different hosts.
    Raises ValueError when a stage would get nobody or there are not enough workers.
    """
    if not sizes or min(sizes) < 1 or sum(sizes) > len(roster):
        raise ValueError(f"{len(roster)} workers cannot make groups of {list(sizes)}")
    order = [stage for turn in range(max(sizes)) for stage, size in enumerate(sizes) if size > turn]
    groups: list[list[WorkerId]] = [[] for _ in sizes]
    for stage, worker in zip(order, roster, strict=False):
        groups[stage].append(worker)
    spares = tuple(roster[len(order) :])
    return Layout(tuple(Group(stage, g[0], tuple(g[1:])) for stage, g in enumerate(groups)), spares)


class View(msgspec.Struct, frozen=True):
    """One agreed membership. `epoch` counts agreements and is never a clock."""

    epoch: int
    layout: Layout
