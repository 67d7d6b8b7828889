"""Bookkeeping of a failure: which phases it cost how much, from the last sign of life to the next finished step.

Every survivor keeps these books, because any of them may lead when the step is finished at last; only the leader
writes them to the trace.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.protocol import Facts

Kind = Literal["kill", "hang", "lost"]


@dataclass
class _Loss:
    """One lost member; times in Unix seconds, phases in seconds."""

    worker: WorkerId
    kind: Kind
    step: int
    seen_at: float
    detect_s: float
    noticed_s: float
    phases: dict[str, float] = field(default_factory=dict)


class Outage:
    """All members lost since the last finished step."""

    def __init__(self) -> None:
        self._losses: list[_Loss] = []
        self._left_at = time.time()

    def __bool__(self) -> bool:
        return bool(self._losses)

    def leave_step(self) -> None:
        """The work in hand is given up or done; the group is about to be asked who lives."""
        self._left_at = time.time()

    def add(
        self,
        lost: Sequence[WorkerId],
        facts: Facts,
        kinds: dict[WorkerId, Kind],
        *,
        step: int,
        fallback_at: float,
    ) -> None:
        """Open the books for members that are gone in `step`. `fallback_at`: the last time all was well."""
        noticed = min((r.noticed_at for r in facts.reports if r.noticed_at), default=self._left_at)
        for worker in lost:
            seen = max(
                (r.last_seen[str(worker)] for r in facts.reports if str(worker) in r.last_seen), default=fallback_at
            )
            seen = min(seen, self._left_at)
            self._losses.append(
                _Loss(
                    worker,
                    kinds[worker],
                    step,
                    seen,
                    detect_s=self._left_at - seen,
                    noticed_s=max(0.0, self._left_at - max(noticed, seen)),
                )
            )

    def book(self, **phases: float) -> None:
        """Add seconds to phases of everything that is open."""
        for loss in self._losses:
            for name, seconds in phases.items():
                loss.phases[name] = loss.phases.get(name, 0.0) + seconds

    def close(self) -> list[dict[str, object]]:
        """A step is finished: the fields of `FailureRecovered` but for the epoch, one set for each loss."""
        now = time.time()
        closed: list[dict[str, object]] = []
        for loss in self._losses:
            phases = {name: loss.phases.get(name, 0.0) for name in ("shrink_s", "replan_s", "restore_s", "reinit_s")}
            total_s = now - loss.seen_at
            closed.append(
                {
                    "kind": loss.kind,
                    "worker": str(loss.worker),
                    "step": loss.step,
                    "detect_s": loss.detect_s,
                    "noticed_s": loss.noticed_s,
                    **phases,
                    "redo_s": max(0.0, total_s - loss.detect_s - sum(phases.values())),
                    "total_s": total_s,
                }
            )
        self._losses.clear()
        return closed
