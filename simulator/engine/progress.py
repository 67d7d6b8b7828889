"""How far the work is, and from where it can go on: the arithmetic between two events.

A run alternates `interval` of work and `stall` for a commit. Between events nothing happens that a formula cannot
tell, so nothing is stepped through. Knows cycles and marks; knows no failures.
"""

from __future__ import annotations

from collections import deque

import msgspec

from simulator.engine.ledger import Account, Ledger


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A commit: what it holds, and from when on it can be restored."""

    work_ns: int
    useful_ns: int
    safe_ns: int


class Commits:
    """The marks of one tier: every `every`-th commit goes there and is safe `write_ns` after its stall."""

    __slots__ = ("_marks", "_safe", "every", "write_ns")

    def __init__(self, every: int, write_ns: int) -> None:
        self.every, self.write_ns = every, write_ns
        self._safe = Mark(0, 0, 0)
        self._marks: deque[Mark] = deque()

    def add(self, mark: Mark) -> None:
        self._marks.append(mark)

    def newest(self, now_ns: int) -> Mark:
        """The newest mark that is safe; what is still being written is not."""
        while self._marks and self._marks[0].safe_ns <= now_ns:
            self._safe = self._marks.popleft()
        return self._safe

    def back_to(self, mark: Mark) -> None:
        """Forget what was written after `mark`, and what is being written."""
        self._marks.clear()
        if mark.work_ns < self._safe.work_ns:
            self._safe = mark


class Progress:
    """Work done (nanoseconds at nominal speed) and the place in the cycle of work and commit."""

    __slots__ = ("_count", "_extra_ns", "interval_ns", "ledger", "place_ns", "speed", "stall_ns", "tiers", "work_ns")

    def __init__(self, ledger: Ledger, interval_ns: int, stall_ns: int, tiers: tuple[Commits, ...]) -> None:
        self.ledger, self.tiers = ledger, tiers
        self.interval_ns, self.stall_ns = interval_ns, stall_ns
        self.work_ns, self.place_ns, self.speed, self._count = 0, 0, 1.0, 0
        self._extra_ns: int | None = None  # after a commit out of turn the cycle goes on here

    def set_pace(self, speed: float, interval_ns: int) -> None:
        """Go on at `speed` (1: nominal) and commit after every `interval_ns` of work."""
        if interval_ns != self.interval_ns:
            self.place_ns = self.place_ns * interval_ns // self.interval_ns
        self.speed, self.interval_ns = speed, interval_ns

    def wall_for(self, work_ns: int) -> int:
        """Wall time from here until `work_ns` more are done, the stalls on the way included, a last one not."""
        left_ns = work_ns if self.speed == 1.0 else -int(-work_ns // self.speed)
        interval_ns, cycle_ns = self.interval_ns, self.interval_ns + self.stall_ns
        here_ns = interval_ns - self.place_ns
        if left_ns <= here_ns:
            return left_ns
        left_ns -= max(here_ns, 0)
        full = (left_ns - 1) // interval_ns
        return cycle_ns - self.place_ns + full * cycle_ns + left_ns - full * interval_ns

    def run_until(self, now_ns: int) -> None:
        """Work and commit until `now_ns`, and book both."""
        ledger, interval_ns = self.ledger, self.interval_ns
        wall_ns = now_ns - ledger.closed_ns
        if wall_ns == 0:
            return
        cycle_ns = interval_ns + self.stall_ns
        if self._extra_ns is not None and self.place_ns + wall_ns >= cycle_ns:
            extra_ns, self._extra_ns = self._extra_ns, None
            self.run_until(ledger.closed_ns + cycle_ns - self.place_ns)
            self.place_ns = extra_ns
            self.run_until(now_ns)
            return
        before_ns = min(self.place_ns, interval_ns)
        cycles, place_ns = divmod(self.place_ns + wall_ns, cycle_ns)
        in_cycle_ns = min(place_ns, interval_ns)
        useful_ns = cycles * interval_ns + in_cycle_ns - before_ns
        self.place_ns = place_ns
        self.work_ns += useful_ns if self.speed == 1.0 else int(useful_ns * self.speed)
        ledger.book_work(useful_ns, now_ns)
        if cycles:
            self._mark(cycles, now_ns)

    def _mark(self, cycles: int, now_ns: int) -> None:
        """Note the last commits of `cycles` new ones; older ones are superseded before anybody could ask for them."""
        useful_now_ns, in_cycle_ns = self.ledger[Account.USEFUL], min(self.place_ns, self.interval_ns)
        cycle_ns = self.interval_ns + self.stall_ns
        newest = self._count = self._count + cycles
        for tier in self.tiers:
            last = newest // tier.every * tier.every
            # What is safe at once supersedes the one before.
            for number in (last - tier.every, last) if tier.write_ns else (last,):
                ago = newest - number
                if ago >= cycles or number <= 0:
                    continue
                since_ns = in_cycle_ns + ago * self.interval_ns
                done_ns = since_ns if self.speed == 1.0 else int(since_ns * self.speed)
                safe_ns = now_ns - self.place_ns - ago * cycle_ns + tier.write_ns
                tier.add(Mark(max(0, self.work_ns - done_ns), useful_now_ns - since_ns, safe_ns))

    def commit_now(self, now_ns: int) -> None:
        """All that is done is committed and safe at `now_ns`: the end of a run, or a hand-over."""
        mark = Mark(self.work_ns, self.ledger[Account.USEFUL], now_ns)
        for tier in self.tiers:
            tier.add(mark)
        self.place_ns = 0

    def roll_back(self, tier: int, now_ns: int) -> int:
        """Go on from the newest safe commit of `tier`; returns what was lost. Books it from useful to redone."""
        mark = self.tiers[tier].newest(now_ns)
        lost_ns = self.ledger[Account.USEFUL] - mark.useful_ns
        self.ledger.move(Account.USEFUL, Account.REDONE, lost_ns)
        self.work_ns, self.place_ns, self._extra_ns = mark.work_ns, 0, None
        for other in self.tiers:
            other.back_to(mark)
        return lost_ns

    def keep(self, kept_ns: int, next_ns: int, then_ns: int) -> None:
        """Of what was just rolled back, the last `kept_ns` stand after all; a commit comes in `next_ns`.

        It comes out of turn: after it the cycle goes on at its place `then_ns`.
        """
        kept_ns = min(kept_ns, self.ledger[Account.REDONE])
        self.ledger.move(Account.REDONE, Account.USEFUL, kept_ns)
        self.work_ns += int(kept_ns * self.speed)
        self.place_ns = max(0, self.interval_ns - next_ns)
        self._extra_ns = then_ns % self.interval_ns

    def lose_latest(self, lost_ns: int) -> int:
        """The last `lost_ns` of useful time were in vain, at most what is not committed; returns what was lost."""
        lost_ns = min(lost_ns, self.place_ns, self.interval_ns)
        self.ledger.move(Account.USEFUL, Account.REDONE, lost_ns)
        self.work_ns -= lost_ns if self.speed == 1.0 else int(lost_ns * self.speed)
        self.place_ns = min(self.place_ns, self.interval_ns) - lost_ns if lost_ns else self.place_ns
        return lost_ns
