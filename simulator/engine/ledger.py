"""Where the time went: every nanosecond of the run in exactly one account.

Time is booked from where the last booking ended, so that the accounts add up to the wall time by construction. Knows
accounts, not why time is booked there.
"""

from __future__ import annotations

import enum

from ft_horovod.core.errors import InvalidTransition
from simulator.units import to_s


class Account(enum.IntEnum):
    """What a nanosecond was spent on."""

    USEFUL = 0  # work that stood at the end
    COMMIT_STALL = 1  # training stood still for a commit
    DETECTION = 2  # from a failure until it was known
    RECOVERY = 3  # from then until training went on
    REDONE = 4  # work that was lost, and had to be done again
    WAITING = 5  # too few nodes to train
    IDLE = 6  # nothing to do: the job was over


class Ledger:
    """Accounts in integer nanoseconds from 0 to `closed_ns`."""

    __slots__ = ("_spent_ns", "closed_ns")

    def __init__(self) -> None:
        self.closed_ns = 0
        self._spent_ns = [0] * len(Account)

    def book(self, account: Account, until_ns: int) -> int:
        """Book the time from the last booking to `until_ns`, and return it. Raises InvalidTransition for the past."""
        spent_ns = until_ns - self.closed_ns
        if spent_ns < 0:
            raise InvalidTransition(f"booked until {self.closed_ns} ns already, not {until_ns}")
        self._spent_ns[account] += spent_ns
        self.closed_ns = until_ns
        return spent_ns

    def book_work(self, useful_ns: int, until_ns: int) -> None:
        """Book `useful_ns` of the time until `until_ns` as useful and the rest as commit stalls, in one go."""
        stalled_ns = until_ns - self.closed_ns - useful_ns
        if stalled_ns < 0 or useful_ns < 0:
            raise InvalidTransition(f"{useful_ns} ns of work do not fit between {self.closed_ns} and {until_ns} ns")
        self._spent_ns[0] += useful_ns
        self._spent_ns[1] += stalled_ns
        self.closed_ns = until_ns

    def move(self, source: Account, target: Account, amount_ns: int) -> None:
        """Book again elsewhere what turned out to be something else. Raises InvalidTransition when it is not there."""
        if not 0 <= amount_ns <= self._spent_ns[source]:
            raise InvalidTransition(f"{amount_ns} ns are not in {source.name}, which has {self._spent_ns[source]}")
        self._spent_ns[source] -= amount_ns
        self._spent_ns[target] += amount_ns

    def __getitem__(self, account: Account) -> int:
        return self._spent_ns[account]

    def seconds(self) -> dict[str, float]:
        """Every account in seconds, by its name in lower case."""
        return {account.name.lower(): to_s(self._spent_ns[account]) for account in Account}

    def check(self) -> None:
        """Raise InvalidTransition unless the accounts add up to the wall time, to the nanosecond."""
        if sum(self._spent_ns) != self.closed_ns or min(self._spent_ns) < 0:
            raise InvalidTransition(f"{self._spent_ns} ns do not add up to {self.closed_ns} ns")
