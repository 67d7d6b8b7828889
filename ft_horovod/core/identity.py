"""Who a worker is. A rank is only a number in one epoch; a `WorkerId` stays.

This module knows names and nothing about processes, communicators or hosts' addresses.
"""

from __future__ import annotations

import enum
import re
from typing import Self

import msgspec

_WORKER = re.compile(r"(?P<host>[^:#\s]+):(?P<slot>[0-9]+)(#(?P<incarnation>[0-9]+))?")
_HOST = re.compile(r"[^:#\s]+")


class WorkerId(msgspec.Struct, frozen=True, order=True):
    """A process with a stable identity, written `host:slot` or, once the slot was refilled, `host:slot#incarnation`."""

    host: str
    slot: int
    incarnation: int = 0

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host) or self.slot < 0 or self.incarnation < 0:
            raise ValueError(f"not a worker: host {self.host!r}, slot {self.slot}, incarnation {self.incarnation}")

    def __str__(self) -> str:
        return f"{self.host}:{self.slot}" + (f"#{self.incarnation}" if self.incarnation else "")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises ValueError."""
        match = _WORKER.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not host:slot or host:slot#incarnation")
        return cls(match["host"], int(match["slot"]), int(match["incarnation"] or 0))


class Role(enum.Enum):
    """What a worker does in one epoch."""

    LEADER = "leader"
    BACKUP = "backup"
    SPARE = "spare"
