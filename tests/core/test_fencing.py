"""Fencing: never two sides that both go on, and nobody is fenced off by plain deaths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.fencing import cut_off
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, place


def layout(*hosts: str) -> Layout:
    return place([WorkerId(host, slot) for slot, host in enumerate(hosts)], len(hosts))


@pytest.mark.parametrize(
    ("hosts", "living", "expected"),
    [
        ("aabb", (0, 1, 2, 3), False),
        ("aaaa", (3,), False),  # dead for certain: their host answers
        ("aabb", (0, 2), False),
        ("aabb", (0, 1), False),  # half and half: the side with the first leader
        ("aabb", (2, 3), True),
        ("aabbb", (0, 1), True),
        ("aabbb", (2, 3, 4), False),
        ("aabbcc", (0, 1, 2, 3), False),
        ("aabbcc", (4, 5), True),
        ("aabbcc", (0, 4), False),  # only b is silent, and no more of it than of us
    ],
)
def test_who_must_end(hosts: str, living: tuple[int, ...], expected: bool) -> None:
    whole = layout(*hosts)
    assert cut_off(whole, [whole.members[number] for number in living]) is expected


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=10), st.sets(st.sampled_from("abcd")))
def test_never_both_sides_of_a_partition_go_on(hosts: list[str], one_side: set[str]) -> None:
    whole = layout(*hosts)
    sides = [[w for w in whole.members if (w.host in one_side) is inside] for inside in (True, False)]
    going_on = [side for side in sides if side and not cut_off(whole, side)]
    assert len(going_on) == 1


@given(st.integers(1, 10), st.data())
def test_deaths_on_one_host_fence_nobody(size: int, data: st.DataObject) -> None:
    whole = layout(*"a" * size)
    living = data.draw(st.sets(st.sampled_from(whole.members), min_size=1))
    assert not cut_off(whole, living)
