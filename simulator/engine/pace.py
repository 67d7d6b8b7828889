"""How fast a run is just now, and how often it commits: what the policy and stragglers make of the nominal speed.

Knows speeds and intervals; knows no phases.
"""

from __future__ import annotations

import math

from simulator.costs.quantity import value_of
from simulator.engine.fleet import Fleet
from simulator.engine.kernel import NEVER_NS
from simulator.engine.ledger import Ledger
from simulator.engine.progress import Commits, Progress
from simulator.policies.policy import Policy, Rollback
from simulator.scenario import Scenario
from simulator.units import to_ns

_STANDS_STILL = 1e-9  # a speed so low that nothing comes of it, and no division by zero either


class Pace:
    """Sets the pace of a run's `progress`; `slow` holds the stragglers among the nodes, by how many times slower."""

    def __init__(self, scenario: Scenario, policy: Policy, fleet: Fleet, ledger: Ledger) -> None:
        self.slow: dict[int, float] = {}
        self._policy, self._fleet = policy, fleet
        self._step_ns = scenario.costs.ns("step_s")
        self._redo_share = value_of(scenario.costs.redo_share)
        self._kept_share = value_of(scenario.costs.kept_share)
        commit = scenario.commit
        self._every_steps = None if policy.copies else commit.every_steps
        disk_ns = NEVER_NS if scenario.interval_s is None else to_ns(scenario.interval_s)
        write_ns = to_ns(value_of(commit.write_s))
        if policy.copies:
            interval_ns, stall_ns = to_ns(commit.copy_every_s), to_ns(value_of(commit.copy_stall_s))
            every = max(1, math.ceil(disk_ns / interval_ns))
            tiers: tuple[Commits, ...] = (Commits(1, 0), Commits(every, write_ns))
        else:
            interval_ns, stall_ns = disk_ns, to_ns(value_of(commit.stall_s))
            tiers = (Commits(1, write_ns),)
        self._interval_ns = interval_ns
        self.progress = Progress(ledger, interval_ns, stall_ns, tiers)

    def set(self) -> None:
        """Tell the progress how fast it is from here on."""
        speed = self._policy.speed()
        if self.slow:
            worst = max((factor for node, factor in self.slow.items() if node in self._fleet.active), default=1.0)
            speed /= worst
        speed = max(speed, _STANDS_STILL)
        interval_ns = self._interval_ns
        if self._every_steps is not None:
            interval_ns = int(self._every_steps * self._step_ns / speed)
        self.progress.set_pace(speed, interval_ns)

    def into_step_ns(self) -> int:
        """How long the current step has been going on."""
        return self.place_ns() % self._one_step_ns()

    def place_ns(self) -> int:
        """Time at work since the last commit was due."""
        return min(self.progress.place_ns, self.progress.interval_ns)

    def carry_on(self, place_ns: int) -> None:
        """After a rollback at `place_ns` of the cycle: the step in hand goes on, and a commit follows it.

        The commits after that one come when they would have come.
        """
        step_ns = self._one_step_ns()
        into_ns = place_ns % step_ns
        self.progress.keep(into_ns, step_ns - into_ns, place_ns - into_ns + step_ns)

    def _one_step_ns(self) -> int:
        return max(1, int(self._step_ns / self.progress.speed))

    def roll_back(self, rollback: Rollback, now_ns: int, at_work: bool) -> int:
        """Lose what the rollback says, the step in hand only when one is in hand; returns what was lost."""
        if rollback is Rollback.NOTHING:
            return 0
        if rollback is Rollback.STEP:
            return self.lose_step() if at_work else 0
        return self.progress.roll_back(-1 if rollback is Rollback.DISK else 0, now_ns)

    def lose_step(self) -> int:
        """The current step was in vain, or the share of it that is done again; returns what was lost.

        Of the time since the step began, `redo_share` less `kept_share` of a whole step.
        """
        kept_ns = self._one_step_ns() * self._kept_share
        return self.progress.lose_latest(max(0, int(self.into_step_ns() * self._redo_share - kept_ns)))
