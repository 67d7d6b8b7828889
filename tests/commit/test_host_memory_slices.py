"""Which slices make one state: examples, and runs of random cuts, deaths and membership changes against brute force."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.commit.host_slices import Header, Meta, Slice, newest_whole

TOTAL = 12


def cut(slot: int, begin: int, end: int, act: int = 5, **other: object) -> Slice:
    fields = {"step": act, "total": TOTAL, "identity": "id", "progress": b"p%d" % act} | other
    meta = Meta(act=act, begin=begin, end=end, **fields)
    header = Header(sequence=act, written_at_s=0.0, checksum=0, meta=meta)
    return Slice(path=f"/dev/shm/{slot}", host="node1", slot=slot, side=act % 2, header=header)


def chosen(*slices: Slice, **how: object) -> list[tuple[int, int]]:
    """Worker and act of what was chosen."""
    return [(one.slot, one.meta.act) for one in newest_whole(slices, "id", **how)]


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ((), []),
        ((cut(0, 0, 12),), [(0, 5)]),
        ((cut(0, 0, 6), cut(1, 6, 12)), [(0, 5), (1, 5)]),
        ((cut(0, 0, 6), cut(1, 7, 12)), []),
        ((cut(0, 0, 6), cut(1, 6, 11)), []),
        ((cut(0, 1, 12),), []),
        ((cut(0, 0, 6), cut(1, 6, 12), cut(0, 0, 6, act=6)), [(0, 5), (1, 5)]),  # 1 died while it wrote act 6
        ((cut(0, 0, 6), cut(1, 3, 12), cut(2, 5, 8)), [(0, 5), (1, 5)]),  # overlaps
        ((cut(0, 0, 6), cut(1, 6, 12, identity="other")), []),
        ((cut(0, 0, 6), cut(1, 6, 12, progress=b"other")), []),
        ((cut(0, 0, 6), cut(1, 6, 12, step=4)), []),
        ((cut(0, 0, 6, origin=(0, 1)), cut(1, 6, 12, origin=(0, 2))), []),  # the act was done again
        ((cut(0, 0, 12, origin=(0, 2)), cut(1, 0, 12, origin=(0, 10))), [(1, 5)]),
        ((cut(0, 0, 12, origin=(9,)), cut(1, 0, 12, act=6)), [(1, 6)]),  # a newer act goes before a newer origin
        ((cut(0, 0, 12), cut(1, 0, 13, total=13)), []),  # who is right?
    ],
)
def test_examples(slices: tuple[Slice, ...], expected: list[tuple[int, int]]) -> None:
    assert chosen(*slices) == expected
    assert chosen(*reversed(slices)) == expected


def test_all_stages_have_to_be_there() -> None:
    first, second = cut(0, 0, 12, stage=0, stages=2), cut(1, 0, 7, total=7, stage=1, stages=2)
    assert chosen(first, second) == [(0, 5), (1, 5)]
    assert chosen(first) == []
    assert chosen(first, stages=[0]) == [(0, 5)]
    assert chosen(first, second, cut(0, 0, 12, act=6, stage=0, stages=2)) == [(0, 5), (1, 5)]
    assert chosen(first, cut(1, 0, 7, total=7, stage=1, stages=3)) == []


@st.composite
def runs(draw: st.DrawFn) -> list[Slice]:
    """What lies in memory after some commits by changing members, whose cuts overlap, and some of whom died writing."""
    files: dict[int, list[Slice | None]] = {slot: [None, None] for slot in range(4)}
    alive = set(files)
    for act in range(draw(st.integers(1, 5))):
        epoch = draw(st.integers(0, 2))
        members = sorted(alive)
        inner = sorted(draw(st.lists(st.integers(1, TOTAL - 1), min_size=len(members) - 1, max_size=len(members) - 1)))
        for slot, (begin, end) in zip(members, pairwise([0, *inner, TOTAL]), strict=True):
            wider = draw(st.integers(0, 4))  # a backup may hold more than its share
            reach = (max(0, begin - wider), min(TOTAL, end + wider))
            fate = draw(st.sampled_from(["writes"] * 6 + ["dies writing"]))
            if reach[0] == reach[1]:  # nothing to hold
                continue
            newest = files[slot][1]
            files[slot] = (
                [newest, cut(slot, *reach, act=act, origin=(0, epoch))] if fate == "writes" else [None, newest]
            )
            if fate != "writes" and len(alive) > 1:
                alive -= {slot}
    return draw(st.permutations([one for file in files.values() for one in file if one is not None]))


def covers(slices: tuple[Slice, ...]) -> bool:
    held = {element for one in slices for element in range(one.meta.begin, one.meta.end)}
    return held == set(range(TOTAL))


@given(runs())
def test_the_newest_state_there_is_is_found_with_the_fewest_slices(slices: list[Slice]) -> None:
    acts = sorted({one.meta.act for one in slices}, reverse=True)
    states = [tuple(one for one in slices if one.meta.act == act) for act in acts]
    whole = [state for state in states if covers(state)]
    found = newest_whole(slices, "id")
    if not whole:
        assert found == ()
        return
    assert covers(found)
    assert {one.meta.act for one in found} == {whole[0][0].meta.act}
    smaller = combinations(whole[0], len(found) - 1)
    assert not any(covers(some) for some in smaller)


@given(runs(), st.randoms(use_true_random=False))
def test_all_hosts_choose_alike(slices: list[Slice], random: object) -> None:
    other = list(slices)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert newest_whole(slices, "id") == newest_whole(other, "id")
