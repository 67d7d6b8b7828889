"""Pipelines: everybody is on one, nobody twice in a round, and micro-batches are dealt as weights ask."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, place_groups
from ft_horovod.core.pipelines import MOST, deal, pipelines, rounds

sizes_of_groups = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def layout(sizes: list[int]) -> Layout:
    return place_groups([WorkerId("host", slot) for slot in range(sum(sizes))], sizes)


@given(sizes_of_groups)
def test_everybody_is_on_a_pipeline_in_its_stages_place(sizes: list[int]) -> None:
    groups = layout(sizes).groups
    ways = pipelines(layout(sizes))
    assert 1 <= len(ways) <= MOST
    assert [way.number for way in ways] == list(range(len(ways)))
    for stage, group in enumerate(groups):
        on = Counter(way.workers[stage] for way in ways)
        assert set(on) == set(group.members)
        spread = max(on.values()) - min(on.values())
        assert spread == 0 if len(ways) % len(group.members) == 0 else spread <= 1


def test_groups_of_one_size_have_pipelines_of_their_own() -> None:
    ways = pipelines(layout([2, 2, 2]))
    assert len(ways) == 2
    assert set(ways[0].workers).isdisjoint(ways[1].workers)
    assert rounds(ways) == (ways,)


def test_after_a_loss_no_pipeline_stops() -> None:
    whole = layout([2, 2, 2])
    lost = whole.groups[1].members[0]
    groups = [[w for w in group.members if w != lost] for group in whole.groups]
    ways = pipelines(place_groups([w for group in groups for w in group], [len(group) for group in groups]))
    assert len(ways) == 2
    assert ways[0].workers[1] == ways[1].workers[1]


def test_with_standby_leaders_alone_compute() -> None:
    (way,) = pipelines(layout([2, 3, 1]), standby=True)
    assert way.workers == tuple(group.leader for group in layout([2, 3, 1]).groups)


@given(sizes_of_groups)
def test_rounds_hold_every_pipeline_once_and_nobody_twice(sizes: list[int]) -> None:
    ways = pipelines(layout(sizes))
    built = rounds(ways)
    assert sorted(way.number for some in built for way in some) == [way.number for way in ways]
    for some in built:
        workers = [worker for way in some for worker in way.workers]
        assert len(workers) == len(set(workers))


@given(st.integers(0, 60), st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_each_pipeline_gets_what_its_weight_asks(micro_batches: int, weights: list[float]) -> None:
    dealt = deal(micro_batches, weights)
    assert len(dealt) == micro_batches
    for way, weight in enumerate(weights):
        assert abs(dealt.count(way) - micro_batches * weight / sum(weights)) < len(weights)


def test_equal_pipelines_take_turns() -> None:
    assert deal(5, [1, 1]) == (0, 1, 0, 1, 0)
    assert deal(4, [3, 1]).count(0) == 3


@pytest.mark.parametrize("weights", [[], [0.0], [1.0, -1.0], [float("inf")], [float("nan")]])
def test_weights_that_make_no_sense(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        deal(3, weights)
