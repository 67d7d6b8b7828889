"""Where a worker stands in a job, and how it finds the others at the job's rendezvous."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from ft_horovod.core.errors import Fenced
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.rounds import Member

_member = msgspec.msgpack.Decoder(Member)
_roster = msgspec.msgpack.Decoder(tuple[Member, ...])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this worker stands in the job."""

    me: WorkerId
    number: int | None  # among those the launcher started together; None for a newcomer
    started: int  # how many those are
    address: str  # of this host, on the job's network
    interface: str  # the same by name
    secret: bytes


def roll_call(keys: KeyStore, place: Place, me: Member, within_s: float) -> list[Member]:
    """Leave one's address, and wait for those of all who were started together. Raises Fenced, RendezvousLost."""
    keys.put(f"start-{place.number}", msgspec.msgpack.encode(me))
    give_up = time.monotonic() + within_s
    members = []
    for number in range(place.started):
        text = keys.wait(f"start-{number}", give_up - time.monotonic())
        if text is None:
            raise Fenced(f"worker {number} of {place.started} did not come up within {within_s:.0f} s")
        members.append(_member.decode(text))
    return members


def leave_roster(keys: KeyStore, members: tuple[Member, ...]) -> None:
    """For newcomers: who runs now. Raises RendezvousLost."""
    keys.put("roster", msgspec.msgpack.encode(members))


def read_roster(keys: KeyStore, within_s: float) -> list[Member]:
    """Who ran lately; nobody when no roster is there in time. Raises RendezvousLost."""
    text = keys.wait("roster", within_s)
    return [] if text is None else list(_roster.decode(text))
