"""A host and its slots: how they are written, read and added up.

This module knows names and numbers. It does not know where they come from, nor whether a host answers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import msgspec

from ft_horovod.core.errors import ConfigError

MAX_SLOTS = 65_535  # of one host in one place: a larger number is a slip of the pen

EXPECTED = "expected HOST, HOST:SLOTS or HOST slots=N"
_NUMBER = re.compile(r"[0-9]{1,9}")
# A name must not begin with a dash: ssh would take it for an option.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


class NoHosts(ConfigError):
    """A source was read and names no host: wrong in a file, but a cluster that is still starting may say so too."""


class HostSlots(msgspec.Struct, frozen=True):
    """A host and how many workers it takes; 0: none for now. An IPv6 address stands without brackets."""

    host: str
    slots: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.slots}" if ":" in self.host else f"{self.host}:{self.slots}"


def parse_host(text: str) -> str:
    """A host name, an IPv4 address, or an IPv6 address in brackets. Raises ValueError with what is wrong."""
    if text.startswith("[") and text.endswith("]"):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
            if _NAME.fullmatch(address.scope_id or "x"):
                return str(address)
            raise ipaddress.AddressValueError(f"not an interface: {address.scope_id!r}")
        except ipaddress.AddressValueError as error:
            raise ValueError(f"{text!r} is no IPv6 address in brackets") from error
    if text.count(":") > 1:
        raise ValueError(f"{text!r} has several colons; an IPv6 address goes in brackets, [ADDRESS]:SLOTS")
    if not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is no host name; {EXPECTED}")
    return text


def split_number(text: str) -> tuple[str, str | None]:
    """What stands before and after the last colon, if that lies outside brackets: `a:2`, `[::1]:2`, `a`, `[::1]`."""
    before, colon, after = text.rpartition(":")
    if not colon or "]" in after or (":" in before and not before.endswith("]")):
        return text, None
    return before, after


def parse_slots(text: str) -> int:
    """A number of slots. Raises ValueError."""
    return parse_number(text, "slots")


def parse_number(text: str, what: str) -> int:
    """A number from 0 to MAX_SLOTS. Raises ValueError that says `what` it was to be."""
    if not _NUMBER.fullmatch(text) or int(text) > MAX_SLOTS:
        raise ValueError(f"expected {what} as a number from 0 to {MAX_SLOTS}, found {text!r}")
    return int(text)


def merge(hosts: Iterable[HostSlots]) -> tuple[HostSlots, ...]:
    """Each host once, at its first place, with all its slots: a host named twice has the slots of both, as in MPI."""
    slots: dict[str, int] = {}
    for one in hosts:
        slots[one.host] = slots.get(one.host, 0) + one.slots
    return tuple(HostSlots(host, count) for host, count in slots.items())
