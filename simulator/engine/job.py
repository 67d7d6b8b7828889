"""One simulated run: a job that works, is struck, recovers and goes on, from event to event.

Knows what follows what. What to do about a loss is the policy's business, when it strikes the stream's, and where time
is booked that of `phases`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulator.engine.fleet import Fleet
from simulator.engine.kernel import NEVER_NS, Kernel
from simulator.engine.ledger import Ledger
from simulator.engine.outcome import Ending, Outcome
from simulator.engine.pace import Pace
from simulator.engine.phases import DETECT, FINAL, RECOVER, RUN, WAIT, Phase, Phases
from simulator.engine.tally import UNHEARD, Tally
from simulator.engine.terms import Terms
from simulator.failures.stream import Strike
from simulator.policies.policy import Hit, Policy, World
from simulator.policies.registry import Maker
from simulator.scenario import Scenario

# Kinds of planned events; the value orders those of one instant.
_COME_BACK, _FAST_AGAIN, _SWITCH, _LIMIT = range(4)

Event = tuple[int, int, Strike | None]


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
        self._terms = Terms(scenario)
        self._phases = Phases(self._progress)
        self._settle = self._phases.settle
        self._pause_ns, self._unheard = 0, 0
        self._over_ns = NEVER_NS  # the end of the phase, which is never planned: there is only one at a time
        self._ending: Ending | None = None

    def run(self) -> Outcome:
        """Simulate until the work is done, the time is over, or it is plain that neither will happen."""
        self.kernel.plan(self._terms.limit_ns, _LIMIT, (_LIMIT, 0, None))
        self._go(0)
        kernel, strike = self.kernel, next(self._strikes, None)
        while self._ending is None:
            struck_ns = NEVER_NS if strike is None else strike.time_ns
            over_ns = self._over_ns
            # Of one instant: a phase ends, then what is planned, then a strike.
            event = kernel.take(over_ns - 1 if over_ns <= struck_ns else struck_ns)
            if event is not None:
                self._handle(kernel.now_ns, event)
            elif over_ns <= struck_ns:
                kernel.go_to(over_ns)
                self._over_ns = NEVER_NS
                self._phase_over(over_ns)
            elif strike is not None:
                kernel.go_to(struck_ns)
                self._struck(struck_ns, strike)
                strike = next(self._strikes, None)
        self.ledger.check()
        return self.tally.outcome(self._ending, self.ledger, self._progress.work_ns, self.kernel.handled)

    def _handle(self, now_ns: int, event: Event) -> None:
        what, number, strike = event
        if what == _COME_BACK:
            self._came_back(now_ns, None if number < 0 else number)
        elif what == _SWITCH:
            self._switch(now_ns)
        elif what == _FAST_AGAIN and strike is not None:
            self._fast_again(now_ns, number, strike)
        else:
            self._settle(now_ns)
            self._ending = "wall" if self._terms.has_wall else "no_progress"

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
        if self._terms.leaves_in_order(cause):
            detect_ns, recovery = 0, self.policy.left(lost)
        else:
            detect_ns = self._terms.detect_ns(cause)
            recovery = self.policy.hit(Hit(lost, cause.host_lost, cause.effect == "corrupt"))
        place_ns = self._pace.place_ns() if recovery.overlap_ns else 0
        lost_ns = self._pace.roll_back(recovery.rollback, now_ns, self._phases.now is RUN)
        self.tally.note(strike, lost, recovery, (detect_ns, lost_ns))
        if recovery.overlap_ns and self._phases.now is RUN and len(self.fleet.active) >= self.policy.needed:
            self._pace.carry_on(place_ns)
            self.kernel.plan(now_ns + recovery.overlap_ns, _SWITCH, (_SWITCH, 0, None))
            self._plan_done(now_ns)
            return
        self._pause_ns = max(self._pause_ns, recovery.pause_ns)
        self._phases.known_ns = max(self._phases.known_ns, now_ns + detect_ns)
        if self.tally.in_vain(self._progress.work_ns):
            self._ending = "no_progress"
        if len(self.fleet.active) >= self.policy.needed:
            self._enter(RECOVER, self._phases.known_ns + self._pause_ns)
        else:
            self._enter(DETECT, self._phases.known_ns)

    def _plan_return(self, now_ns: int, nodes: Sequence[int], strike: Strike) -> None:
        away_ns = self._terms.away_ns(strike, self.policy.respawn_ns)
        if away_ns is None:
            return
        self._returns += len(nodes)
        for node in nodes:
            self.kernel.plan(now_ns + away_ns, _COME_BACK, (_COME_BACK, node, None))

    def _slowed(self, now_ns: int, nodes: list[int], strike: Strike) -> None:
        self._settle(now_ns)
        lasts_ns = min(strike.repair_ns or 0, self._terms.slow_ns)
        for node in nodes:
            self._pace.slow[node] = strike.cause.factor
            self.kernel.plan(now_ns + lasts_ns, _FAST_AGAIN, (_FAST_AGAIN, node, strike))
        self._replan(now_ns)

    def _fast_again(self, now_ns: int, node: int, strike: Strike) -> None:
        """A straggler is well again, or has been noticed and is replaced in good order."""
        self._settle(now_ns)
        self._pace.slow.pop(node, None)
        left_ns = (strike.repair_ns or 0) - self._terms.slow_ns
        if left_ns > 0 and node in self.fleet.active:
            self.fleet.lose([node])
            self._plan_return(now_ns, [node], Strike(now_ns, (node,), strike.cause, left_ns))
            recovery = self.policy.left([node])
            self._pace.roll_back(recovery.rollback, now_ns, self._phases.now is RUN)
            self.tally.count(strike, recovery)
            self._pause_ns = max(self._pause_ns, recovery.pause_ns)
            self._known(now_ns)
        else:
            self._replan(now_ns)

    def _switch(self, now_ns: int) -> None:
        """A restart that was prepared while training went on: the step in hand is lost, and the new pace holds."""
        if self._phases.now is RUN:
            self._settle(now_ns)
            self._pace.lose_step()
            self._replan(now_ns)

    # Who comes.

    def _came_back(self, now_ns: int, node: int | None) -> None:
        self._returns -= 1
        if self.fleet.come_back(node) is None:
            return
        if self._phases.now is RUN:
            self._let_in(now_ns)
        elif self._phases.now is WAIT:
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
        self._pace.roll_back(recovery.rollback, now_ns, self._phases.now is RUN)
        self._pause_ns = recovery.pause_ns
        self._enter(RECOVER, now_ns + recovery.pause_ns)
        return True

    # Phases.

    def _enter(self, phase: Phase, until_ns: int) -> None:
        self._phases.now = phase
        self._over_ns = until_ns

    def _phase_over(self, now_ns: int) -> None:
        self._settle(now_ns)
        phase = self._phases.now
        if phase is DETECT:
            self._known(now_ns)
        elif phase is RECOVER:
            self.policy.running()
            self._pause_ns = 0
            if not self._let_in(now_ns):
                self._go(now_ns)
        elif phase is RUN and self._progress.work_ns < self._terms.target_ns:
            self._plan_done(now_ns)  # a commit out of turn came between
        elif phase is RUN and self._terms.at_end:
            self._enter(FINAL, now_ns + self._progress.stall_ns)
        else:
            self._ending = "finished"

    def _known(self, now_ns: int) -> None:
        """The loss is known: recover with those who are there, or wait for more."""
        if len(self.fleet.active) < self.fleet.wanted and self.fleet.spares:
            self.policy.came()
        if len(self.fleet.active) >= self.policy.needed:
            self._enter(RECOVER, now_ns + self._pause_ns)
        else:
            self._enter(WAIT, NEVER_NS)
            if self._returns <= 0:
                self._ending = "starved"

    def _go(self, now_ns: int) -> None:
        self._phases.now = RUN
        self._unheard = 0
        self._replan(now_ns)

    def _replan(self, now_ns: int) -> None:
        """Training runs at a new speed: say when the work will be done."""
        if self._phases.now is RUN:
            self._pace.set()
            self._plan_done(now_ns)

    def _plan_done(self, now_ns: int) -> None:
        until_ns = NEVER_NS
        if self._terms.target_ns < NEVER_NS:
            until_ns = now_ns + self._progress.wall_for(self._terms.target_ns - self._progress.work_ns)
        self._enter(RUN, until_ns)
