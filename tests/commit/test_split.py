"""How a state is cut into shards: whole tensors, in order, the largest shard as small as can be."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.commit.shards import runs, split


@pytest.mark.parametrize(
    ("sizes", "parts", "expected"),
    [
        ([5], 1, [(0, 1)]),
        ([5], 4, [(0, 1)]),  # more members than tensors: the others have nothing to write
        ([5, 5], 4, [(0, 1), (1, 2)]),
        ([1, 1, 100, 1], 4, [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ([1, 1, 100, 1], 2, [(0, 2), (2, 4)]),
        ([100, 1, 1], 2, [(0, 1), (1, 3)]),
        ([1, 1, 1, 1], 2, [(0, 2), (2, 4)]),
        ([0, 0, 0], 2, [(0, 2), (2, 3)]),
        ([], 3, []),
    ],
)
def test_corners(sizes: list[int], parts: int, expected: list[tuple[int, int]]) -> None:
    assert split(sizes, parts) == expected


def test_no_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 parts"):
        split([1], 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 10))
def test_nothing_is_better_balanced(sizes: list[int], parts: int) -> None:
    found = split(sizes, parts)
    assert len(found) == min(parts, len(sizes))
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
    assert found[-1][1] == len(sizes)
    assert all(a < b for a, b in found)
    cuts = [(0, *inner, len(sizes)) for inner in combinations(range(1, len(sizes)), len(found) - 1)]
    best = min(max(sum(sizes[a:b]) for a, b in pairwise(cut)) for cut in cuts)
    assert max(sum(sizes[a:b]) for a, b in found) == best


def test_runs_are_places_in_the_flat_state() -> None:
    flat = torch.arange(10.0)
    named = {"b": flat[:6].view(2, 3), "a": flat[6:9], "c": flat[9:]}
    first, second = runs(named, 2)
    assert (first.start, first.stop, second.start, second.stop) == (0, 6, 6, 10)
    parts = first.views(flat[:6].clone()) | second.views(flat[6:].clone())
    assert list(parts) == ["b", "a", "c"]
    assert all(torch.equal(parts[name], named[name]) for name in named)
