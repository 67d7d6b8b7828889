"""Who holds which copies: apart from each other, the same everywhere, and moved only where it must be."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.placement import HashRing, Member, group_holders, placed, ring_holders

SHARDS = [f"shard {number}" for number in range(40)]
POINTS = 16  # few, so that many rings are quickly made


@st.composite
def crews(draw: st.DrawFn, least: int = 1) -> list[Member]:
    """Members on some hosts, with or without racks, some of them heavier."""
    per_host = draw(st.lists(st.integers(1, 3), min_size=least, max_size=7))
    rack_of = draw(st.none() | st.lists(st.integers(0, 3), min_size=len(per_host), max_size=len(per_host)))
    weights = st.sampled_from([0.5, 1.0, 3.0])
    return [
        Member(f"h{host}:{slot}", f"h{host}", None if rack_of is None else f"r{rack_of[host]}", draw(weights))
        for host, count in enumerate(per_host)
        for slot in range(count)
    ]


def flat(count: int) -> list[Member]:
    """So many hosts with a member each."""
    return [Member(f"h{host}:0", f"h{host}") for host in range(count)]


@given(crews(), st.integers(0, 4), st.data())
def test_copies_are_apart_and_as_many_as_there_can_be(crew: list[Member], copies: int, data: st.DataObject) -> None:
    ring = HashRing(crew, POINTS)
    owner = data.draw(st.none() | st.sampled_from(crew))
    for shard in SHARDS:
        domains = [member.domain for member in ring.holders(shard, copies, owner)]
        assert len(set(domains)) == len(domains) == min(copies, ring.most_copies(owner))
        assert owner is None or owner.domain not in domains


@given(crews(least=2), st.integers(1, 4), st.data())
def test_when_a_member_leaves_only_its_copies_move(crew: list[Member], copies: int, data: st.DataObject) -> None:
    leaver = data.draw(st.sampled_from(crew))
    owner = data.draw(st.none() | st.sampled_from([member for member in crew if member != leaver] or [None]))
    before = HashRing(crew, POINTS)
    after = before.without(leaver.name)
    for shard in SHARDS:
        held, held_now = before.holders(shard, copies, owner), after.holders(shard, copies, owner)
        assert leaver not in held_now
        if leaver in held:
            assert set(held) - {leaver} <= set(held_now)
        else:
            assert held == held_now


@given(crews(least=2), st.data())
def test_a_ring_without_a_member_is_the_ring_of_the_others(crew: list[Member], data: st.DataObject) -> None:
    leaver = data.draw(st.sampled_from(crew))
    fewer = HashRing(crew, POINTS).without(leaver.name)
    fresh = HashRing([member for member in crew if member != leaver], POINTS)
    assert fewer.members == fresh.members
    assert all(fewer.holders(shard, 3) == fresh.holders(shard, 3) for shard in SHARDS)


@given(crews(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_told_does_not_matter(crew: list[Member], rng: st.Random) -> None:
    ring = HashRing(crew, POINTS)
    shuffled = rng.sample(crew, len(crew))
    assert all(ring.holders(shard, 2) == HashRing(shuffled, POINTS).holders(shard, 2) for shard in SHARDS)


@pytest.mark.parametrize("members", [4, 16, 64])
def test_a_newcomer_takes_about_its_share_and_only_it_takes(members: int) -> None:
    newcomer = flat(members + 1)[-1]
    before, after = HashRing(flat(members)), HashRing(flat(members + 1))
    shards = [str(number) for number in range(4000)]
    moved = [shard for shard in shards if before.holders(shard, 1) != after.holders(shard, 1)]
    assert all(after.holders(shard, 1) == (newcomer,) for shard in moved)
    assert len(moved) / len(shards) == pytest.approx(1 / (members + 1), rel=0.35)


def test_load_follows_weight() -> None:
    ring = HashRing([*flat(6), Member("big:0", "big", weight=3.0)], points=256)
    load = Counter(ring.holders(str(number), 1)[0].name for number in range(9000))
    assert load["big:0"] / 9000 == pytest.approx(3 / 9, rel=0.2)
    assert load["big:0"] / 9000 == pytest.approx(ring.shares()["big:0"], rel=0.1)


@given(crews())
def test_shares_add_up(crew: list[Member]) -> None:
    ring = HashRing(crew, POINTS)
    assert set(ring.shares()) == {member.name for member in crew}
    assert sum(ring.shares().values()) == pytest.approx(1)


def test_nobody_holds_anything_on_an_empty_ring() -> None:
    ring = HashRing(())
    assert ring.holders("x", 2) == ()
    assert ring.most_copies() == 0
    assert HashRing(flat(1)).without("h0:0").holders("x", 1) == ()


def test_an_owner_need_not_be_a_member() -> None:
    owner = Member("h1:9", "h1")
    assert {HashRing(flat(3)).holders(shard, 2, owner) for shard in SHARDS} == {
        (flat(3)[0], flat(3)[2]),
        (flat(3)[2], flat(3)[0]),
    }


def test_with_racks_copies_are_a_rack_apart() -> None:
    crew = [Member(f"h{host}:0", f"h{host}", f"r{host // 2}") for host in range(4)]
    ring = HashRing(crew)
    assert ring.most_copies(crew[0]) == 1
    assert all({held.rack for held in ring.holders(shard, 3, crew[0])} == {"r1"} for shard in SHARDS)


def test_a_refilled_slot_takes_over_its_points() -> None:
    assert Member.of(WorkerId("a", 1, incarnation=3)) == Member.of(WorkerId("a", 1)) == Member("a:1", "a")


def test_every_process_finds_the_same_places() -> None:
    program = (
        "from ft_horovod.core.placement import *\n"
        "ring = HashRing([Member(f'h{n}:0', f'h{n}') for n in range(9)])\n"
        "print([m.name for s in range(40) for m in ring.holders(f'shard {s}', 2)])"
    )
    ring = HashRing(flat(9))
    expected = str([member.name for shard in SHARDS for member in ring.holders(shard, 2)])
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert told.stdout.strip() == expected


def test_places_stay_the_same_from_release_to_release() -> None:
    """A commit in another process's memory is looked for where an older version put it."""
    ring = HashRing(flat(9))
    assert [ring.holders(shard, 1)[0].name for shard in SHARDS[:8]] == [
        "h0:0",
        "h6:0",
        "h4:0",
        "h0:0",
        "h1:0",
        "h8:0",
        "h8:0",
        "h7:0",
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([Member("a", "h"), Member("a", "g")], "member a is there twice"),
        ([Member("a", "h", "r"), Member("b", "h", "q")], "host h is in two racks: r and q"),
        ([Member("a", "h", "r"), Member("b", "g")], "host g has no rack, but others have"),
        ([Member("a", "h", weight=1e6)], "member a: weight 1e.06 makes more than 65,536 points"),
    ],
)
def test_contradictions(members: list[Member], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        HashRing(members)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(ValueError, match=r"member a: weight is .*, expected more than 0"):
        Member("a", "h", weight=weight)


@pytest.mark.parametrize("points", [0, 70_000])
def test_a_member_needs_points(points: int) -> None:
    with pytest.raises(ValueError, match=r"points is .*, expected 1 to 65,536"):
        HashRing(flat(2), points)


def test_ring_and_groups() -> None:
    assert [ring_holders(place, 4, 2) for place in range(4)] == [(0, 1), (1, 2), (2, 3), (3, 0)]
    assert [group_holders(place, 4, 2) for place in range(4)] == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert [group_holders(place, 5, 2) for place in range(5)] == [(0, 1), (1, 0), (2, 3), (3, 4), (4, 2)]


@pytest.mark.parametrize("scheme", ["group", "ring"])
@given(st.integers(1, 30), st.integers(1, 5))
def test_every_state_has_its_copies_and_nobody_holds_more_than_others(scheme: str, places: int, copies: int) -> None:
    held = [placed(place, places, copies, "ring" if scheme == "ring" else "group") for place in range(places)]
    assert all(one[0] == place for place, one in enumerate(held))
    assert all(len(set(one)) == len(one) == min(copies, places) for one in held)
    assert set(Counter(holder for one in held for holder in one)) == set(range(places))
    assert len(set(Counter(holder for one in held for holder in one).values())) == 1
