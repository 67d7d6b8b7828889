"""The recovery plan: what becomes of a layout when workers are lost, leave or come.

One pure function. Every survivor computes it alone from the same agreed facts, so no election is needed and survivors
cannot disagree; the simulator calls the very same function.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ft_horovod.core.errors import QuorumLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Group, Layout


class Promotion(msgspec.Struct, frozen=True):
    """A backup, or a spare when no backup was left, leads its stage from now on."""

    stage: int
    worker: WorkerId
    instead_of: WorkerId


class Move(msgspec.Struct, frozen=True):
    """A worker enters a group: from the spares (`from_stage` is None) or from another group."""

    worker: WorkerId
    stage: int
    from_stage: int | None = None


class Transfer(msgspec.Struct, frozen=True):
    """State of one stage goes from a worker that has the newest to workers that lack it."""

    stage: int
    source: WorkerId
    targets: tuple[WorkerId, ...]


class RecoveryPlan(msgspec.Struct, frozen=True):
    """What every survivor does next, in this order: the transfers one by one, then the new layout.

    A source may be about to change its stage, or to leave: its transfer stands before the one that it receives.
    """

    layout: Layout
    step: int
    promotions: tuple[Promotion, ...] = ()
    moves: tuple[Move, ...] = ()
    transfers: tuple[Transfer, ...] = ()


class Goal(msgspec.Struct, frozen=True):
    """What the layout should look like: members wanted for each stage, and the fewest in all to go on with."""

    members: tuple[int, ...]
    min_members: int = 1

    def __post_init__(self) -> None:
        if not self.members or min(self.members) < 1 or not 1 <= self.min_members <= sum(self.members):
            raise ValueError(f"every stage needs a member, and 1 <= min_members <= all members: {self}")


def recover(
    layout: Layout,
    goal: Goal,
    steps: Mapping[WorkerId, int],
    *,
    lost: Collection[WorkerId] = (),
    leaving: Collection[WorkerId] = (),
    joining: Sequence[WorkerId] = (),
) -> RecoveryPlan:
    """Plan how to go on.

    `steps` says for each living member how many steps its state of its stage has finished: -1 for a member that has
    entered the group and not received its state yet. `lost` workers are gone, `leaving` ones still hand over their
    state, `joining` ones come in as the last spares. A lost leader is replaced by its first living backup; groups below
    their goal are filled, neediest first, from the spares; an empty group, or one that misses two members more than
    another, gets a backup of the group that is best off. Nobody else moves. Raises QuorumLost when a stage's newest
    state is gone, when a stage has nobody, or when fewer than `goal.min_members` are left.
    """
    dead = set(lost)
    gone = dead | set(leaving)
    before = [list(group.members) for group in layout.groups]
    step, newest = _newest([[worker for worker in members if worker not in dead] for members in before], steps)

    after = [[worker for worker in members if worker not in gone] for members in before]
    spares = [worker for worker in (*layout.spares, *joining) if worker not in gone]
    moves = [*_fill(after, spares, goal), *_even_out(after, goal)]
    if sum(map(len, after)) < goal.min_members or not all(after):
        raise QuorumLost(_too_few(after, goal))

    promotions, transfers = [], []
    for stage, members in enumerate(after):
        if members[0] != before[stage][0]:
            promotions.append(Promotion(stage, members[0], before[stage][0]))
        up_to_date = set(newest[stage])
        behind = tuple(worker for worker in members if worker not in up_to_date)
        if behind:
            source = next((worker for worker in newest[stage] if worker not in gone), newest[stage][0])
            transfers.append(Transfer(stage, source, behind))
    # Whoever moves gives its old stage's state away before that of its new stage takes the place.
    movers = {move.worker for move in moves}
    transfers.sort(key=lambda transfer: transfer.source not in movers)
    groups = tuple(Group(stage, members[0], tuple(members[1:])) for stage, members in enumerate(after))
    return RecoveryPlan(Layout(groups, tuple(spares)), step, tuple(promotions), tuple(moves), tuple(transfers))


def _newest(holders: list[list[WorkerId]], steps: Mapping[WorkerId, int]) -> tuple[int, list[list[WorkerId]]]:
    """The newest step, and for each stage those of its living holders who have it. Raises QuorumLost."""
    for stage, living in enumerate(holders):
        if not living:
            raise QuorumLost(f"stage {stage}: nobody is left who holds its state")
    step = max(steps[worker] for living in holders for worker in living)
    newest = [[worker for worker in living if steps[worker] == step] for living in holders]
    for stage, holding in enumerate(newest):
        if step < 0 or not holding:
            raise QuorumLost(
                f"stage {stage}: nobody is left who holds its state" + (f" of step {step}" if step >= 0 else "")
            )
    return step, newest


def _too_few(after: list[list[WorkerId]], goal: Goal) -> str:
    empty = ", ".join(str(stage) for stage, members in enumerate(after) if not members)
    if empty:
        return f"stage {empty}: nobody is left who could take it over"
    return f"{sum(map(len, after))} members are left, at least {goal.min_members} are needed"


def _fill(after: list[list[WorkerId]], spares: list[WorkerId], goal: Goal) -> list[Move]:
    """Bring spares into the groups that are below their goal; empty groups first, then the neediest."""
    moves = []
    while spares:
        missing = [want - len(members) for want, members in zip(goal.members, after, strict=True)]
        stage = max(range(len(after)), key=lambda s: (missing[s] > 0 and not after[s], missing[s], -s))
        if missing[stage] <= 0:
            break
        worker = spares.pop(0)
        after[stage].append(worker)
        moves.append(Move(worker, stage))
    return moves


def _even_out(after: list[list[WorkerId]], goal: Goal) -> list[Move]:
    """Move last backups, from the group that is best off, to groups that are empty or miss two members more than it.

    Nobody moves to a group that has all it wants. Leaders stay.
    """
    moves: list[Move] = []
    while True:
        missing = [want - len(members) for want, members in zip(goal.members, after, strict=True)]
        rich = min(range(len(after)), key=lambda s: (len(after[s]) < 2, missing[s], s))
        poor = max(range(len(after)), key=lambda s: (not after[s], missing[s], -s))
        needed = not after[poor] or (missing[poor] > 0 and missing[poor] - missing[rich] >= 2)
        if len(after[rich]) < 2 or not needed:
            return moves
        worker = after[rich].pop()
        after[poor].append(worker)
        moves.append(Move(worker, poor, from_stage=rich))
