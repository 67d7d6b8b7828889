"""The times that a scenario sets for a run, in nanoseconds: how late a loss is known, how long a node is away.

Knows the scenario; knows no state.
"""

from __future__ import annotations

from simulator.costs.quantity import value_of
from simulator.engine.kernel import NEVER_NS
from simulator.failures.causes import Cause
from simulator.failures.stream import Strike
from simulator.scenario import Scenario
from simulator.units import S_PER_H, to_ns

_DETECTED_LATE = frozenset({"hang", "partition"})


class Terms:
    """Read once for each run. `respawn_ns` is the policy's: until a process on a healthy node is back."""

    __slots__ = (
        "_handover_s", "_hang_ns", "_kill_ns", "_provision_ns", "at_end", "has_wall", "limit_ns",
        "slow_ns", "target_ns",
    )  # fmt: skip

    def __init__(self, scenario: Scenario) -> None:
        costs, provision_s, work_h = scenario.costs, scenario.cluster.provision_s, scenario.job.work_h
        self._kill_ns, self._hang_ns = costs.ns("detect_kill_s"), costs.ns("detect_hang_s")
        self._handover_s = value_of(costs.handover_s)
        self._provision_ns = NEVER_NS if provision_s is None else to_ns(provision_s)
        self.slow_ns = NEVER_NS if costs.detect_slow_s is None else costs.ns("detect_slow_s")
        self.target_ns = NEVER_NS if work_h is None else to_ns(work_h * S_PER_H)
        self.has_wall = scenario.job.wall_h is not None
        self.limit_ns, self.at_end = scenario.limit_ns, scenario.commit.at_end

    def detect_ns(self, cause: Cause) -> int:
        """From the failure until it is known."""
        if cause.effect == "false_alarm":
            return 0
        return self._hang_ns if cause.effect in _DETECTED_LATE else self._kill_ns

    def leaves_in_order(self, cause: Cause) -> bool:
        """Whether the notice is long enough to hand over."""
        return cause.effect == "preempt" and cause.notice_s >= self._handover_s

    def away_ns(self, strike: Strike, respawn_ns: int) -> int | None:
        """How long a struck node is away: repaired or replaced, whichever is sooner; None: until somebody joins."""
        if strike.repair_ns is None:
            return None
        away_ns = min(strike.repair_ns, self._provision_ns)
        return away_ns + respawn_ns if strike.cause.repair is None else away_ns
