"""What came of one simulated run. Knows figures, not how they came about."""

from __future__ import annotations

from typing import Literal

import msgspec

Ending = Literal["finished", "wall", "no_progress", "starved"]

ENDINGS: dict[Ending, str] = {
    "finished": "the work is done",
    "wall": "the wall time is over",
    "no_progress": "it cannot progress: failures undo the work faster than it is done",
    "starved": "it cannot progress: too few nodes are left, and none will come back",
}


class Failure(msgspec.Struct, frozen=True):
    """One loss in the life of a run, in seconds: when, why, how it was survived, and what it cost."""

    time_s: float
    cause: str
    nodes: tuple[int, ...]
    tier: str
    detect_s: float
    pause_s: float
    lost_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Accounts in seconds add up to `wall_s`; `work_s` is work at nominal speed that stood at the end.

    `effective` is work_s over wall_s: what came of the time, a smaller cluster's slowness included. `goodput` is useful
    time over wall time.
    """

    ending: Ending
    wall_ns: int
    work_ns: int
    accounts_ns: dict[str, int]
    interruptions: int
    planned: int
    tiers: dict[str, int]
    causes: dict[str, int]
    joins: int
    events: int
    failures: tuple[Failure, ...] = ()

    @property
    def goodput(self) -> float:
        return self.accounts_ns["useful"] / self.wall_ns if self.wall_ns else 1.0

    @property
    def effective(self) -> float:
        return self.work_ns / self.wall_ns if self.wall_ns else 1.0
