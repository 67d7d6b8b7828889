"""One simulated run: a job that works, is struck, recovers and goes on, from event to event.

Knows what follows what. What to do about a loss is the policy's business, when it strikes the stream's, and where time
is booked that of `phases`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulator.costs.quantity import value_of
from simulator.engine.fleet import Fleet
from simulator.engine.kernel import NEVER_NS, Kernel
from simulator.engine.ledger import Account, Ledger
from simulator.engine.outcome import Ending, Outcome
from simulator.engine.pace import Pace
from simulator.engine.phases import Phase, Phases
from simulator.engine.tally import UNHEARD, Tally
from simulator.failures.stream import Strike
from simulator.policies.policy import Hit, Policy, Recovery, Rollback, World
from simulator.policies.registry import Maker
from simulator.scenario import Scenario
from simulator.units import S_PER_H, to_ns


# Kinds of events. The value orders those of one instant: what is over ends before the next thing strikes.
# Strikes come from their own stream, after everything else of their instant.
_PHASE_OVER, _COME_BACK, _FAST_AGAIN, _SWITCH, _LIMIT = range(5)

Event = tuple[int, int, Strike | None]
_DETECTED_LATE = frozenset({"hang", "partition"})


class Job:
    """Runs once. `joins` is how many nodes the strikes will bring, besides repairs."""

    def __init__(
        self, scenario: Scenario, maker: Maker, strikes: Iterator[Strike], *, joins: int = 0, record: int = 0
    ) -> None:
        self.fleet = Fleet(scenario.cluster.nodes, scenario.cluster.spares)
        self.policy: Policy = maker(World(scenario, self.fleet))
        self.kernel: Kernel[Event] = Kernel()
        self.ledger = Ledger()
        self.tally = Tally(record)
        self._pace = Pace(scenario, self.policy, self.fleet, self.ledger)
        self._progress = self._pace.progress
        self._strikes, self._returns = strikes, joins
        costs, cluster = scenario.costs, scenario.cluster
        self._kill_ns, self._hang_ns = costs.ns("detect_kill_s"), costs.ns("detect_hang_s")
        self._slow_ns = NEVER_NS if costs.detect_slow_s is None else costs.ns("detect_slow_s")
        self._handover_s = value_of(costs.handover_s)
        self._provision_ns = NEVER_NS if cluster.provision_s is None else to_ns(cluster.provision_s)
        work_h = scenario.job.work_h
        self._target_ns = NEVER_NS if work_h is None else to_ns(work_h * S_PER_H)
        self._limit_ns, self._at_end = scenario.limit_ns, scenario.commit.at_end
        self._phases = Phases(self._progress)
        self._settle = self._phases.settle
        self._pause_ns, self._unheard = 0, 0
        self._ending: Ending | None = None

    def run(self) -> Outcome:
        """Simulate until the work is done, the time is over, or it is plain that neither will happen."""
        self.kernel.plan(self._limit_ns, _LIMIT, (_LIMIT, 0, None))
        self._go(0)
        kernel, strike = self.kernel, next(self._strikes, None)
        while self._ending is None:
            event = kernel.take(NEVER_NS if strike is None else strike.time_ns)
            if event is not None:
                self._handle(kernel.now_ns, event)
            elif strike is not None:
                kernel.go_to(strike.time_ns)
                self._struck(strike.time_ns, strike)
                strike = next(self._strikes, None)
        self.ledger.check()
        tally = self.tally
        return Outcome(
            ending=self._ending or "starved",
            wall_ns=self.ledger.closed_ns,
            work_ns=self._progress.work_ns,
            accounts_ns={account.name.lower(): self.ledger[account] for account in Account},
            interruptions=tally.unplanned,
            planned=tally.planned,
            tiers=dict(sorted(tally.tiers.items())),
            causes=dict(sorted(tally.causes.items())),
            joins=tally.joins,
            events=self.kernel.handled,
            failures=tuple(tally.failures),
        )

    def _handle(self, now_ns: int, event: Event) -> None:
        what, number, strike = event
        if what == _COME_BACK:
            self._came_back(now_ns, None if number < 0 else number)
        elif what == _PHASE_OVER:
            if number == self._phases.version:
                self._phase_over(now_ns)
        elif what == _SWITCH:
            self._switch(now_ns)
        elif what == _FAST_AGAIN and strike is not None:
            self._fast_again(now_ns, number, strike)
        else:
            self._settle(now_ns)
            self._ending = "wall" if self._limit_ns < NEVER_NS else "starved"

    # What strikes.

    def _struck(self, now_ns: int, strike: Strike) -> None:
        cause = strike.cause
        away = self.fleet.away
        gone = [node for node in strike.nodes if node not in away]
        if not strike.nodes:  # somebody joins
            self._came_back(now_ns, None)
        elif not gone:
            self._unheard += 1
            if self._unheard > UNHEARD:
                self._settle(now_ns)
                self._ending = "no_progress"
        elif cause.effect == "slow":
            self._slowed(now_ns, gone, strike)
        else:
            self._lose(now_ns, gone, strike)

    def _lose(self, now_ns: int, gone: list[int], strike: Strike) -> None:
        cause = strike.cause
        lost = self.fleet.lose(gone)
        self._plan_return(now_ns, gone, strike)
        if not lost:
            return
        self._settle(now_ns)
        if cause.effect == "preempt" and cause.notice_s >= self._handover_s:
            detect_ns, recovery = 0, self.policy.left(lost)
        else:
            detect_ns = self._hang_ns if cause.effect in _DETECTED_LATE else self._kill_ns
            detect_ns = 0 if cause.effect == "false_alarm" else detect_ns
            recovery = self.policy.hit(Hit(lost, cause.host_lost, cause.effect == "corrupt"))
        place_ns = self._pace.place_ns()
        lost_ns = self._roll_back(recovery, now_ns)
        self.tally.count(strike, recovery)
        self.tally.note(strike, lost, recovery, detect_ns, lost_ns)
        if recovery.overlap_ns and self._phases.now is Phase.RUN and len(self.fleet.active) >= self.policy.needed:
            self._pace.carry_on(place_ns)
            self.kernel.plan(now_ns + recovery.overlap_ns, _SWITCH, (_SWITCH, 0, None))
            self._plan_done(now_ns)
            return
        self._pause_ns = max(self._pause_ns, recovery.pause_ns)
        self._phases.known_ns = max(self._phases.known_ns, now_ns + detect_ns)
        if self.tally.in_vain(self._progress.work_ns):
            self._ending = "no_progress"
        if len(self.fleet.active) >= self.policy.needed:
            self._enter(Phase.RECOVER, self._phases.known_ns + self._pause_ns)
        else:
            self._enter(Phase.DETECT, self._phases.known_ns)

    def _plan_return(self, now_ns: int, nodes: Sequence[int], strike: Strike) -> None:
        """A machine is repaired or replaced, whichever is sooner; a process on a healthy one is started again."""
        if strike.repair_ns is None:
            return
        away_ns = min(strike.repair_ns, self._provision_ns)
        if strike.cause.repair is None:
            away_ns += self.policy.respawn_ns
        for node in nodes:
            self._returns += 1
            self.kernel.plan(now_ns + away_ns, _COME_BACK, (_COME_BACK, node, None))

    def _slowed(self, now_ns: int, nodes: list[int], strike: Strike) -> None:
        self._settle(now_ns)
        lasts_ns = min(strike.repair_ns or 0, self._slow_ns)
        for node in nodes:
            self._pace.slow[node] = strike.cause.factor
            self.kernel.plan(now_ns + lasts_ns, _FAST_AGAIN, (_FAST_AGAIN, node, strike))
        self._replan(now_ns)

    def _fast_again(self, now_ns: int, node: int, strike: Strike) -> None:
        """A straggler is well again, or has been noticed and is replaced in good order."""
        self._settle(now_ns)
        self._pace.slow.pop(node, None)
        left_ns = (strike.repair_ns or 0) - self._slow_ns
        if left_ns > 0 and node in self.fleet.active:
            self.fleet.lose([node])
            self._plan_return(now_ns, [node], Strike(now_ns, (node,), strike.cause, left_ns))
            recovery = self.policy.left([node])
            self._roll_back(recovery, now_ns)
            self.tally.count(strike, recovery)
            self._pause_ns = max(self._pause_ns, recovery.pause_ns)
            self._known(now_ns)
        else:
            self._replan(now_ns)

    def _switch(self, now_ns: int) -> None:
        """A restart that was prepared while training went on: the step in hand is lost, and the new pace holds."""
        if self._phases.now is Phase.RUN:
            self._settle(now_ns)
            self._pace.lose_step()
            self._replan(now_ns)

    # Who comes.

    def _came_back(self, now_ns: int, node: int | None) -> None:
        self._returns -= 1
        if self.fleet.come_back(node) is None:
            return
        if self._phases.now is Phase.RUN:
            self._let_in(now_ns)
        elif self._phases.now is Phase.WAIT:
            self._settle(now_ns)
            self._known(now_ns)

    def _let_in(self, now_ns: int) -> bool:
        """Ask the policy whether those who wait shall come in now; whether training pauses for it."""
        if len(self.fleet.active) >= self.fleet.wanted or not self.fleet.spares:
            return False
        self._settle(now_ns)
        recovery = self.policy.came()
        if recovery is None:
            return False
        self.tally.joins += 1
        self._roll_back(recovery, now_ns)
        self._pause_ns = recovery.pause_ns
        self._enter(Phase.RECOVER, now_ns + recovery.pause_ns)
        return True

    # Phases.

    def _enter(self, phase: Phase, until_ns: int) -> None:
        version = self._phases.enter(phase)
        if until_ns < NEVER_NS:
            self.kernel.plan(until_ns, _PHASE_OVER, (_PHASE_OVER, version, None))

    def _phase_over(self, now_ns: int) -> None:
        self._settle(now_ns)
        match self._phases.now:
            case Phase.DETECT:
                self._known(now_ns)
            case Phase.RECOVER:
                self.policy.running()
                self._pause_ns = 0
                if not self._let_in(now_ns):
                    self._go(now_ns)
            case Phase.RUN if self._progress.work_ns < self._target_ns:
                self._plan_done(now_ns)  # a commit out of turn came between
            case Phase.RUN if self._at_end:
                self._enter(Phase.FINAL, now_ns + self._progress.stall_ns)
            case _:
                self._ending = "finished"

    def _known(self, now_ns: int) -> None:
        """The loss is known: recover with those who are there, or wait for more."""
        if len(self.fleet.active) < self.fleet.wanted and self.fleet.spares:
            self.policy.came()
        if len(self.fleet.active) >= self.policy.needed:
            self._enter(Phase.RECOVER, now_ns + self._pause_ns)
        else:
            self._enter(Phase.WAIT, NEVER_NS)
            if self._returns <= 0:
                self._ending = "starved"

    def _go(self, now_ns: int) -> None:
        self._phases.enter(Phase.RUN)
        self._unheard = 0
        self._replan(now_ns)

    def _replan(self, now_ns: int) -> None:
        """Training runs at a new speed: say when the work will be done."""
        if self._phases.now is Phase.RUN:
            self._pace.set()
            self._plan_done(now_ns)

    def _plan_done(self, now_ns: int) -> None:
        left_ns = self._target_ns - self._progress.work_ns
        done_ns = now_ns + self._progress.wall_for(left_ns) if self._target_ns < NEVER_NS else NEVER_NS
        self._enter(Phase.RUN, min(done_ns, NEVER_NS))

    def _roll_back(self, recovery: Recovery, now_ns: int) -> int:
        if recovery.rollback is Rollback.NOTHING:
            return 0
        if recovery.rollback is Rollback.STEP:
            return self._pace.lose_step() if self._phases.now is Phase.RUN else 0
        return self._progress.roll_back(-1 if recovery.rollback is Rollback.DISK else 0, now_ns)
