"""Cutting a model into stages and sharing out members: as even as can be, whatever the costs."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.partition import cut, share_members, share_members_on, shrink, stage_costs

positive = st.floats(0.001, 1000)
costs_of_units = st.lists(positive, min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("costs", "stages", "expected"),
    [
        ([1, 1, 1, 1], 1, ((0, 4),)),
        ([1, 1, 1, 1], 2, ((0, 2), (2, 4))),
        ([5, 1, 1, 1], 2, ((0, 1), (1, 4))),
        ([1, 2, 3, 4, 5], 3, ((0, 3), (3, 4), (4, 5))),
        ([1, 1, 1], 3, ((0, 1), (1, 2), (2, 3))),
    ],
)
def test_cuts(costs: list[float], stages: int, expected: object) -> None:
    assert cut(costs, stages) == expected


@given(costs_of_units, st.data())
def test_a_cut_covers_everything_and_none_is_better(costs: list[float], data: st.DataObject) -> None:
    stages = data.draw(st.integers(1, len(costs)))
    bounds = cut(costs, stages)
    assert [first for first, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == len(costs)
    assert all(first < stop for first, stop in bounds)
    inner = sorted(data.draw(st.sets(st.integers(1, len(costs) - 1), min_size=stages - 1, max_size=stages - 1))
                   if stages > 1 else [])  # fmt: skip
    other = max(sum(costs[a:b]) for a, b in pairwise([0, *inner, len(costs)]))
    assert max(stage_costs(costs, stages)) <= other + 1e-9


@pytest.mark.parametrize("stages", [0, 4])
def test_more_stages_than_units(stages: int) -> None:
    with pytest.raises(ValueError, match="3 units cannot make"):
        cut([1, 2, 3], stages)


def test_unknown_costs_are_all_alike() -> None:
    assert stage_costs((), 3) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("costs", "workers", "expected"),
    [
        ([1, 1], 4, (2, 2)),
        ([1, 1], 5, (3, 2)),
        ([1, 3], 4, (1, 3)),
        ([1, 10, 1], 3, (1, 1, 1)),
        ([4, 1], 3, (2, 1)),
    ],
)
def test_members_go_where_most_is_to_do(costs: list[float], workers: int, expected: tuple[int, ...]) -> None:
    assert share_members(costs, workers) == expected


@given(st.lists(positive, min_size=1, max_size=5), st.integers(0, 12))
def test_no_other_sharing_makes_the_busiest_member_less_busy(costs: list[float], more: int) -> None:
    sizes = share_members(costs, len(costs) + more)
    assert sum(sizes) == len(costs) + more
    busiest = max(cost / size for cost, size in zip(costs, sizes, strict=True))
    for giver in range(len(costs)):
        for taker in range(len(costs)):
            if giver != taker and sizes[giver] > 1:
                moved = list(sizes)
                moved[giver] -= 1
                moved[taker] += 1
                assert max(cost / size for cost, size in zip(costs, moved, strict=True)) >= busiest - 1e-9


def test_too_few_workers() -> None:
    with pytest.raises(ValueError, match="2 workers cannot hold 3 stages"):
        share_members([1, 1, 1], 2)
    with pytest.raises(ValueError, match="2 workers cannot hold 3 stages"):
        shrink([2, 2, 2], 2)


def test_growing_keeps_what_there_is() -> None:
    assert share_members_on([1.0, 1.0], (3, 1), 1) == (3, 2)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_shrinking_takes_from_the_largest(sizes: list[int], data: st.DataObject) -> None:
    workers = data.draw(st.integers(len(sizes), sum(sizes)))
    left = shrink(sizes, workers)
    assert sum(left) == workers
    assert all(1 <= now <= before for now, before in zip(left, sizes, strict=True))
    taken = [before - now for now, before in zip(left, sizes, strict=True)]
    for some, now in zip(taken, left, strict=True):
        assert some == 0 or now >= max(left) - 1
