"""Pipelines: the ways a micro-batch takes through the stages, one worker of each stage on it.

While every group has as many members, each member is on a pipeline of its own. When groups differ, members of the
smaller ones are on several, so that no pipeline stops, whichever stages have lost members. A pipeline's number of
micro-batches follows how fast it is. This module knows who is on which way, not what travels there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout

MOST = 12  # pipelines; groups of 3, 4 and 5 members would else need 60


class Pipeline(msgspec.Struct, frozen=True):
    """One way through the stages: the worker of each stage, in order."""

    number: int
    workers: tuple[WorkerId, ...]


def pipelines(layout: Layout, *, standby: bool = False) -> tuple[Pipeline, ...]:
    """The pipelines of a layout. With `standby`, leaders alone compute: there is one.

    There are as many as the least number that all groups' sizes divide, so that the members of each group are on
    equally many; at most `MOST`, and then members' shares differ a little.
    """
    groups = [(group.leader,) if standby else group.members for group in layout.groups]
    sizes = [len(members) for members in groups]
    count = math.lcm(*sizes)
    if count > MOST:
        count = max(sizes)
    return tuple(
        Pipeline(number, tuple(members[number % len(members)] for members in groups)) for number in range(count)
    )


def rounds(ways: Sequence[Pipeline]) -> tuple[tuple[Pipeline, ...], ...]:
    """The pipelines in rounds in which no worker stands twice: each round's are built by one `Comm.Split`."""
    built: list[list[Pipeline]] = []
    for way in ways:
        taken = set(way.workers)
        fitting = (one for one in built if all(taken.isdisjoint(other.workers) for other in one))
        chosen = next(fitting, None)
        if chosen is None:
            built.append([way])
        else:
            chosen.append(way)
    return tuple(map(tuple, built))


def deal(micro_batches: int, weights: Sequence[float]) -> tuple[int, ...]:
    """The pipeline of each micro-batch: in turn, each as often as its weight asks.

    Raises ValueError without weights, or when one is not positive and finite.
    """
    if not weights or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(f"weights must be positive and finite, got {list(weights)}")
    total = sum(weights)
    dealt = [0] * len(weights)
    order = []
    for number in range(micro_batches):
        behind = [(number + 1) * weight / total - had for weight, had in zip(weights, dealt, strict=True)]
        chosen = max(range(len(weights)), key=lambda way: (behind[way], -way))
        dealt[chosen] += 1
        order.append(chosen)
    return tuple(order)
