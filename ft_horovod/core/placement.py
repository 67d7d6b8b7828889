"""Which members hold the copies of which shards, so that two copies never share a host.

Consistent hashing with virtual nodes (Karger et al., STOC 1997): each member has many points on a ring of 64 bits, and
a shard's copies are with the members that follow its own point. When a member leaves, only its copies move; when one
of n joins, about 1/n of all move, to it. Beside it, for comparison and for the simulator, the placements of Gemini
(Wang et al., SOSP 2023).

Points are hashes of text by blake2b, so every process on every machine finds the same ones. This module knows names,
hosts and racks; not how large a shard is, nor who lives.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterator
from hashlib import blake2b
from typing import Literal, Self

import msgspec

from ft_horovod.core.identity import WorkerId

POINTS = 128  # of a member of weight 1: loads then differ by about a tenth (benchmarks/placement.py)
_MOST_POINTS = 1 << 16
_SPACE = 1 << 64

Scheme = Literal["group", "ring"]


class Member(msgspec.Struct, frozen=True, order=True):
    """One that can hold copies. What it does not survive alone is its `rack`, or its host where no rack is told."""

    name: str
    host: str
    rack: str | None = None
    weight: float = 1.0  # how much it takes, as a multiple of what others take

    def __post_init__(self) -> None:
        if not (0 < self.weight < math.inf):
            raise ValueError(f"member {self.name}: weight is {self.weight}, expected more than 0")

    @classmethod
    def of(cls, worker: WorkerId, rack: str | None = None, weight: float = 1.0) -> Self:
        """A worker as a member. A process that refills a slot takes over the points of the one before it."""
        return cls(f"{worker.host}:{worker.slot}", worker.host, rack, weight)

    @property
    def domain(self) -> str:
        """What two copies must not share."""
        return self.host if self.rack is None else self.rack


class HashRing:
    """Members on a ring, each at `points` times its weight places."""

    def __init__(self, members: Collection[Member], points: int = POINTS):
        """Raises ValueError for a name or a host that is told in two ways, and when only some have a rack."""
        _check(members)
        self.members = tuple(sorted(members))
        if not 1 <= points <= _MOST_POINTS:
            raise ValueError(f"points is {points}, expected 1 to {_MOST_POINTS:,}")
        ring = sorted((_hash(b"member", f"{n}:{m.name}"), m) for m in self.members for n in range(_count(m, points)))
        self._at, self._who = [at for at, _ in ring], [member for _, member in ring]

    def without(self, name: str) -> HashRing:
        """The ring after a member has left: the same as one that is made without it."""
        ring = HashRing(())
        ring.members = tuple(member for member in self.members if member.name != name)
        stay = [(at, who) for at, who in zip(self._at, self._who, strict=True) if who.name != name]
        ring._at, ring._who = [at for at, _ in stay], [who for _, who in stay]
        return ring

    def holders(self, shard: str, copies: int, owner: Member | None = None) -> tuple[Member, ...]:
        """The members that hold the copies of `shard`, first choice first.

        None of them shares a host (where racks are told: a rack) with another one or with the `owner`, who has the
        shard anyway and need not be a member. They are fewer than `copies` when there are not enough hosts or racks.
        """
        taken = set() if owner is None else {owner.domain}
        found: list[Member] = []
        for member in self._clockwise(shard):
            if len(found) >= copies:
                break
            if member.domain not in taken:
                taken.add(member.domain)
                found.append(member)
        return tuple(found)

    def shares(self) -> dict[str, float]:
        """The share of all possible shards that each member is the first choice for, by name."""
        width = dict.fromkeys((member.name for member in self.members), 0)
        for number, member in enumerate(self._who):
            before = self._at[number - 1] if number else self._at[-1] - _SPACE
            width[member.name] += self._at[number] - before
        return {name: mine / _SPACE for name, mine in width.items()}

    def most_copies(self, owner: Member | None = None) -> int:
        """How many copies can be told apart: hosts (or racks) besides the owner's."""
        return len({member.domain for member in self.members} - ({owner.domain} if owner else set()))

    def _clockwise(self, shard: str) -> Iterator[Member]:
        """Each member once, from the shard's point on."""
        start = bisect_left(self._at, _hash(b"shard", shard))
        seen: set[str] = set()
        for step in range(len(self._who)):
            member = self._who[(start + step) % len(self._who)]
            if member.name not in seen:
                seen.add(member.name)
                yield member
                if len(seen) == len(self.members):
                    return


def ring_holders(place: int, places: int, copies: int) -> tuple[int, ...]:
    """The places that hold the state of `place`, itself first: it and those that follow, `copies` in all."""
    return tuple((place + step) % places for step in range(min(copies, places)))


def group_holders(place: int, places: int, copies: int) -> tuple[int, ...]:
    """The places that hold the state of `place`, itself first: its group of `copies`.

    Gemini's mixed placement: where `copies` does not divide `places`, the last group and what is left over form a ring.
    """
    grouped = grouped_places(places, copies)
    if place < grouped:
        first = place // copies * copies
        return (place, *(other for other in range(first, first + copies) if other != place))
    return tuple(grouped + held for held in ring_holders(place - grouped, places - grouped, copies))


def grouped_places(places: int, copies: int) -> int:
    """How many of the places are in groups; those behind them form a ring."""
    whole = places // copies * copies
    return whole if whole == places else max(0, whole - copies)


def placed(place: int, places: int, copies: int, scheme: Scheme) -> tuple[int, ...]:
    """`ring_holders` or `group_holders`."""
    return ring_holders(place, places, copies) if scheme == "ring" else group_holders(place, places, copies)


def _count(member: Member, points: int) -> int:
    wanted = max(1, round(points * member.weight))
    if wanted > _MOST_POINTS:
        raise ValueError(f"member {member.name}: weight {member.weight:g} makes more than {_MOST_POINTS:,} points")
    return wanted


def _check(members: Collection[Member]) -> None:
    names: set[str] = set()
    rack_of: dict[str, str | None] = {}
    for member in members:
        if member.name in names:
            raise ValueError(f"member {member.name} is there twice")
        names.add(member.name)
        if rack_of.setdefault(member.host, member.rack) != member.rack:
            raise ValueError(f"host {member.host} is in two racks: {rack_of[member.host]} and {member.rack}")
    racks = set(rack_of.values())
    if None in racks and len(racks) > 1:
        bare = min(host for host, rack in rack_of.items() if rack is None)
        raise ValueError(f"host {bare} has no rack, but others have: tell the racks of all hosts or of none")


def _hash(kind: bytes, text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=kind).digest(), "big")
