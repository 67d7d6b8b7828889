"""The phases of a run, and the time that is booked to each.

    RUN ─strike→ RECOVER ─pause over→ RUN ─work done→ FINAL ─→ end
           └→ DETECT ─known→ WAIT ─enough nodes→ RECOVER

RECOVER begins with the time until the loss is known, unless too few nodes are left: then that is DETECT. Knows which
account a phase is booked to; does not know when one begins or ends.
"""

from __future__ import annotations

import enum

from simulator.engine.ledger import Account
from simulator.engine.progress import Progress


class Phase(enum.IntEnum):
    RUN = 0
    DETECT = 1
    WAIT = 2
    RECOVER = 3
    FINAL = 4


RUN, DETECT, WAIT, RECOVER, FINAL = Phase
_ACCOUNTS = (Account.USEFUL, Account.DETECTION, Account.WAITING, Account.RECOVERY, Account.COMMIT_STALL)


class Phases:
    """Which phase it is `now`, and until when the newest loss is not known yet."""

    __slots__ = ("_ledger", "_progress", "known_ns", "now")

    def __init__(self, progress: Progress) -> None:
        self.now = Phase.RUN
        self.known_ns = 0
        self._progress, self._ledger = progress, progress.ledger

    def settle(self, now_ns: int) -> None:
        """Book the time until now to what it was spent on."""
        if self.now == 0:
            self._progress.run_until(now_ns)
            return
        ledger = self._ledger
        if ledger.closed_ns < self.known_ns:
            ledger.book(Account.DETECTION, min(now_ns, self.known_ns))
        ledger.book(_ACCOUNTS[self.now], now_ns)
