"""Which part of the model each stage holds, and how many members each stage gets: from what the parts cost.

The model is a row of units that cannot be cut further, each with a cost (seconds, or anything proportional). Everybody
computes the same from the same costs. This module knows numbers, not layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

Bounds = tuple[tuple[int, int], ...]


def cut(costs: Sequence[float], stages: int) -> Bounds:
    """Cut the row into `stages` runs of units, half-open, so that the costliest run costs as little as can be.

    Ties go to the cut whose first stages are shortest. Raises ValueError when there are more stages than units.
    """
    if not 1 <= stages <= len(costs):
        raise ValueError(f"{len(costs)} units cannot make {stages} stages")
    cuts = ((0, *inner, len(costs)) for inner in combinations(range(1, len(costs)), stages - 1))
    best = min(cuts, key=lambda bounds: (max(sum(costs[a:b]) for a, b in pairwise(bounds)), bounds))
    return tuple(pairwise(best))


def stage_costs(costs: Sequence[float], stages: int) -> tuple[float, ...]:
    """What each stage costs after `cut`; all alike when the units' costs are not known."""
    if not costs:
        return (1.0,) * stages
    return tuple(sum(costs[first:stop]) for first, stop in cut(costs, stages))


def share_members(costs: Sequence[float], workers: int) -> tuple[int, ...]:
    """Members for each stage: one each, and every further one where a member has most to do.

    `costs` are the stages'. Ties go to the earlier stage. Raises ValueError when a stage would get nobody.
    """
    if not 1 <= len(costs) <= workers:
        raise ValueError(f"{workers} workers cannot hold {len(costs)} stages")
    return share_members_on(costs, [1] * len(costs), workers - len(costs))


def share_members_on(costs: Sequence[float], sizes: Sequence[int], more: int) -> tuple[int, ...]:
    """`more` members on top of `sizes`, each where a member has most to do; ties go to the earlier stage."""
    grown = list(sizes)
    for _ in range(more):
        neediest = max(range(len(costs)), key=lambda stage: (costs[stage] / grown[stage], -stage))
        grown[neediest] += 1
    return tuple(grown)


def shrink(sizes: Sequence[int], workers: int) -> tuple[int, ...]:
    """The sizes that so few workers can fill: the largest groups give first, later ones before earlier ones.

    Raises ValueError when a stage would get nobody.
    """
    if workers < len(sizes):
        raise ValueError(f"{workers} workers cannot hold {len(sizes)} stages")
    left = list(sizes)
    while sum(left) > workers:
        largest = max(range(len(left)), key=lambda stage: (left[stage], stage))
        left[largest] -= 1
    return tuple(left)
