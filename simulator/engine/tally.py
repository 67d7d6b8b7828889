"""Counts what happens to a run, and notices when nothing comes of it. Knows counts; books no time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from simulator.engine.ledger import Account, Ledger
from simulator.engine.outcome import Ending, Failure, Outcome
from simulator.failures.stream import Strike
from simulator.policies.policy import Recovery
from simulator.units import to_s

PATIENCE = 10_000  # losses in a row after which no more work stands than before: it never will
UNHEARD = 200_000  # strikes in a row that found nobody left to strike, and no training in between


class Tally:
    """Losses by cause and by tier; the first `record` of them in full."""

    __slots__ = ("_best_ns", "_in_vain", "_record", "causes", "failures", "joins", "planned", "tiers", "unplanned")

    def __init__(self, record: int) -> None:
        self.unplanned, self.planned, self.joins = 0, 0, 0
        self.tiers: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.failures: list[Failure] = []
        self._record, self._best_ns, self._in_vain = record, -1, 0

    def count(self, strike: Strike, recovery: Recovery) -> None:
        """One loss."""
        cause = strike.cause
        if cause.planned:
            self.planned += 1
        else:
            self.unplanned += 1
        self.causes[cause.name] += 1
        self.tiers[recovery.tier] += 1

    def note(self, strike: Strike, nodes: Sequence[int], recovery: Recovery, times_ns: tuple[int, int]) -> None:
        """Count a loss, and keep it in full while there is room; `times_ns`: until it was known, and work lost."""
        self.count(strike, recovery)
        if len(self.failures) >= self._record:
            return
        detect_ns, lost_ns = times_ns
        self.failures.append(
            Failure(
                to_s(strike.time_ns),
                strike.cause.name,
                tuple(nodes),
                recovery.tier,
                to_s(detect_ns),
                to_s(recovery.pause_ns),
                to_s(lost_ns),
            )
        )

    def outcome(self, ending: Ending, ledger: Ledger, work_ns: int, events: int) -> Outcome:
        """What came of the run, with all that was counted."""
        return Outcome(
            ending=ending,
            wall_ns=ledger.closed_ns,
            work_ns=work_ns,
            accounts_ns={account.name.lower(): ledger[account] for account in Account},
            interruptions=self.unplanned,
            planned=self.planned,
            tiers=dict(sorted(self.tiers.items())),
            causes=dict(sorted(self.causes.items())),
            joins=self.joins,
            events=events,
            failures=tuple(self.failures),
        )

    def in_vain(self, work_ns: int) -> bool:
        """Told after each loss how much work still stands: whether it has not grown for too long."""
        if work_ns > self._best_ns:
            self._best_ns, self._in_vain = work_ns, 0
        else:
            self._in_vain += 1
        return self._in_vain >= PATIENCE
