"""Who may be used: failures of workers and the operators' word in, the hosts to use and the reasons out. Pure.

The ledger holds facts only, so that a policy can change between two calls. One dead worker costs its host one slot
until that slot's cooldown is over. Several within a window are the host's own failure: it is out as a whole, and comes
back after its cooldown, which doubles each time it happens again. Times are seconds on the caller's clock. This module
knows no files, and no slot by number: horovodrun numbers a host's workers afresh whenever their count changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from launch.discovery.hosts import HostSlots

MAX_FAILURES = 256  # remembered of one host

Seconds = Annotated[float, Meta(ge=0)]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """How failures are answered. A limit of 1 is Horovod's own way: the first dead worker costs the whole host."""

    failure_limit: Annotated[int, Meta(ge=1)] = 3  # failures within the window that put the host out
    window_s: Seconds = 300.0
    cooldown_s: Seconds = 30.0  # of the first failure; infinite: nobody comes back but by an operator's word
    cooldown_cap_s: Seconds = 1800.0
    forget_s: Seconds = 3600.0  # a host back for this long starts again with the first cooldown
    same_death_s: Seconds = 1.0  # two reports of one slot within this time are of one death

    def cooldown(self, times: int) -> float:
        """Seconds after the failure that is the `times`-th of its kind."""
        if math.isinf(self.cooldown_s):
            return math.inf
        return min(self.cooldown_cap_s, self.cooldown_s * 2.0 ** min(times - 1, 60))


class Failure(msgspec.Struct, frozen=True):
    """A worker of a host died; `slot` as far as the reporter knows."""

    at_s: float
    slot: int | None = None


class Ledger(msgspec.Struct, frozen=True):
    """What is remembered of all hosts."""

    failures: dict[str, tuple[Failure, ...]] = {}  # host: failures, oldest first
    excluded: frozenset[str] = frozenset()  # by an operator


class Out(msgspec.Struct, frozen=True):
    """Slots that are named by the source and not to be used."""

    host: str
    slots: int
    reason: str
    until_s: float | None  # None: until an operator readmits the host


class Decision(msgspec.Struct, frozen=True):
    """The hosts to use, in order, none without slots; and what was left out."""

    hosts: tuple[HostSlots, ...]
    out: tuple[Out, ...]


class _Standing(msgspec.Struct):
    """What a host's failures come to: recent ones, slots out until these times, the host out until this one."""

    recent: list[Failure] = []
    slots_until_s: list[float] = []
    rounds: int = 0
    until_s: float = -math.inf


def report_failure(ledger: Ledger, host: str, slot: int | None, now_s: float) -> Ledger:
    """The ledger with one more death."""
    failures = sorted((*ledger.failures.get(host, ()), Failure(now_s, slot)), key=lambda failure: failure.at_s)
    return _with_failures(ledger, {**ledger.failures, host: tuple(failures[-MAX_FAILURES:])})


def exclude(ledger: Ledger, host: str) -> Ledger:
    """An operator takes a host out until `readmit`."""
    return msgspec.structs.replace(ledger, excluded=ledger.excluded | {host})


def readmit(ledger: Ledger, host: str) -> Ledger:
    """An operator lets a host in again, with all its slots: what was held against it is forgotten."""
    kept = {name: failures for name, failures in ledger.failures.items() if name != host}
    return msgspec.structs.replace(_with_failures(ledger, kept), excluded=ledger.excluded - {host})


def decide(ledger: Ledger, found: Sequence[HostSlots], given: Sequence[str], now_s: float, policy: Policy) -> Decision:
    """Which of the hosts `found` to use; `given` are those of the last answer, in its order.

    Hosts of the last answer keep their order and new ones go behind: the first ranks belong to workers that hold the
    state. A host that was out in between is new, for it holds none.
    """
    hosts: dict[str, HostSlots] = {}
    out: list[Out] = []
    for one in found:
        lost = _lost(ledger, one, now_s, policy)
        left = one.slots - sum(entry.slots for entry in lost)
        out += lost
        if left:
            hosts[one.host] = HostSlots(one.host, left)
    order = dict.fromkeys([*(name for name in given if name in hosts), *hosts])
    return Decision(tuple(hosts[name] for name in order), tuple(out))


def prune(ledger: Ledger, now_s: float, policy: Policy) -> Ledger:
    """The ledger without hosts whose failures can no longer change a decision."""

    def matters(failures: Sequence[Failure]) -> bool:
        standing = _standing(failures, policy, now_s)
        last_s = max([standing.until_s, *standing.slots_until_s, failures[-1].at_s + policy.window_s])
        return now_s <= last_s + policy.forget_s

    kept = {host: failures for host, failures in ledger.failures.items() if failures and matters(failures)}
    return ledger if len(kept) == len(ledger.failures) else _with_failures(ledger, kept)


def _lost(ledger: Ledger, one: HostSlots, now_s: float, policy: Policy) -> list[Out]:
    """What a host has to do without now."""
    if one.host in ledger.excluded:
        return [Out(one.host, one.slots, "excluded by an operator", None)]
    standing = _standing(ledger.failures.get(one.host, ()), policy, now_s)
    if standing.until_s > now_s:
        return [Out(one.host, one.slots, f"failed repeatedly, {_times(standing.rounds)}", _end(standing.until_s))]
    cooling = (
        sorted(until_s for until_s in standing.slots_until_s if until_s > now_s)[-one.slots :] if one.slots else []
    )
    return [Out(one.host, 1, "a worker died", _end(until_s)) for until_s in cooling]


def _standing(failures: Sequence[Failure], policy: Policy, now_s: float) -> _Standing:
    """Go through a host's failures, oldest first. Those far ahead of the clock, which was set back then, are void."""
    standing = _Standing()
    for failure in failures:
        if failure.at_s > now_s + policy.window_s:
            continue
        if failure.at_s < standing.until_s or _same_death(failure, standing.recent, policy):
            continue  # told already, or the rest of a host that is out
        if failure.at_s > standing.until_s + policy.forget_s:
            standing.rounds = 0
        recent = [one for one in standing.recent if failure.at_s - one.at_s <= policy.window_s]
        standing.recent = [*recent, failure]
        if len(standing.recent) >= policy.failure_limit:
            standing.rounds += 1
            standing.until_s = failure.at_s + policy.cooldown(standing.rounds)
            standing.recent, standing.slots_until_s = [], []
        else:
            standing.slots_until_s.append(failure.at_s + policy.cooldown(len(standing.recent)))
    return standing


def _same_death(failure: Failure, recent: Sequence[Failure], policy: Policy) -> bool:
    return failure.slot is not None and any(
        one.slot == failure.slot and failure.at_s - one.at_s < policy.same_death_s for one in recent
    )


def _with_failures(ledger: Ledger, failures: dict[str, tuple[Failure, ...]]) -> Ledger:
    return msgspec.structs.replace(ledger, failures=failures)


def _end(until_s: float) -> float | None:
    return None if math.isinf(until_s) else until_s


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
