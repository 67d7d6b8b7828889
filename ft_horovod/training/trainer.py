"""One worker's run: the recovery loop around the acts of training.

A run is a fixed sequence of acts: each optimizer step, each evaluation, and the closing. Everybody performs the same
act together; an act that fails is done again by those who live, from the state of whoever is furthest. This module
knows the order of things. Who lives is `membership`'s business, what becomes of the layout `core.recovery`'s, how a
step is computed `step`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import Fenced, MembershipError, QuorumLost
from ft_horovod.core.fencing import cut_off
from ft_horovod.core.identity import Role, WorkerId
from ft_horovod.core.layout import Layout, View, place_groups
from ft_horovod.core.partition import share_members_on, shrink, stage_costs
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover
from ft_horovod.core.spans import Spans
from ft_horovod.core.trace import FailureRecovered, Promoted, TrainingStarted, TrainingStopped, ViewAgreed, WorkerLost
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.protocol import Facts, Membership, Progress, Report
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.acts import Acts
from ft_horovod.training.newcomers import Roster
from ft_horovod.training.outage import Kind, Outage
from ft_horovod.training.work import StepInHand

Ending = Literal["finished", "left"]


@dataclass(frozen=True)
class Surroundings:
    """What the worker process provides."""

    trace: TraceFile
    pulse: Pulse
    last_seen: Callable[[], Mapping[str, float]]  # the host's workers -> Unix time of their last sign of life
    hung: Callable[[], tuple[str, ...]]  # workers this process has killed because they were stuck
    on_layout: Callable[[Layout, Roster], None]  # told about each new layout: the watch and the faults depend on it
    kills: Callable[[int, Role], bool]  # whether the fault schedule kills the worker of this number or role
    stand_by_beat: Callable[[], None]  # called all the time while a spare waits
    processors: int = 0  # see `Report.processors`


class Trainer:
    """Runs one worker to the end of the run, or until it leaves."""

    def __init__(self, config: RunConfig, membership: Membership, acts: Acts, around: Surroundings):
        self._config, self._membership, self._acts, self._around = config, membership, acts, around
        self._me = membership.me
        self._layout: Layout | None = None
        self._roster = Roster()
        self._outage = Outage()
        self._well_at = time.time()
        self._epoch, self._leads = -1, False
        self.leaving = False

    def run(self) -> Ending:
        """The recovery loop. Raises QuorumLost when the run cannot go on."""
        facts = self._membership.meet(self._report())
        while not all(report.progress.closed for report in facts.reports):
            try:
                # Once anybody has closed the run, it is enough that everybody has heard of it.
                if not any(report.progress.closed for report in facts.reports):
                    if not self._repair(facts):
                        self._acts.leave()
                        return "left"
                    self._act()
                else:
                    self._acts.adopt(max((report.progress for report in facts.reports), key=lambda p: p.act))
            except MembershipError:
                pass
            self._outage.leave_step()
            facts = self._membership.regroup(self._report())
        return "finished"

    def _act(self) -> None:
        """Perform acts until the membership is to change or the run is closed. Raises MembershipError."""
        assert self._layout is not None
        if self._layout.role(self._me)[0] is Role.SPARE:
            self._around.pulse.enter(Phase.SPARE)
            self._membership.stand_by(self._around.stand_by_beat)
        going_on = True
        while going_on and not self._acts.progress.closed:
            going_on = self._acts.perform(leaving=self.leaving)
            self._book_recovery()

    @property
    def _stage(self) -> int | None:
        """The stage this worker holds the state of; None for a spare, and before the first layout."""
        return self._layout.role(self._me)[1] if self._layout else None

    def _report(self) -> Report:
        broken_at = self._membership.broken_at
        return Report(
            worker=self._me,
            progress=self._acts.progress,
            layout=self._layout,
            roster=self._roster.everybody,
            held=self._acts.held,
            leaving=self.leaving,
            invite=self._acts.wishes.invites,
            newcomers_ready=self._membership.newcomers_ready(),
            noticed_at=time.time() - (time.monotonic() - broken_at) if broken_at else None,
            last_seen=self._around.last_seen(),
            hung=self._around.hung(),
            processors=self._around.processors,
        )

    # -- repair --------------------------------------------------------------------------------------------------

    def _repair(self, facts: Facts) -> bool:
        """From agreed facts to a working group; False when this worker is not part of it any more."""
        started = time.time()
        before = next((report.layout for report in facts.reports if report.layout), None)
        self._roster.learn(facts)
        lost = [worker for worker in before.workers if worker not in facts.workers] if before else []
        plan = self._plan(facts, before, lost)
        newest = max((report.progress for report in facts.reports), key=lambda progress: progress.act)
        self._open_books(facts, before, lost, newest.step)
        newcomers = self._roster.newcomers(plan.layout, newest.goal or self._config.layout.workers)
        if any(report.invite for report in facts.reports) and newcomers:
            self._membership.invite(newcomers)
            self._roster.add(newcomers)
        mine = next((transfer.stage for transfer in plan.transfers if self._me in transfer.targets), None)
        if mine is not None and self._stage in (None, mine):
            self._acts.adopt(Progress())  # until the transfer is done, this state is nobody's
        self._outage.book(shrink_s=facts.shrink_s, replan_s=facts.exchange_s + time.time() - started)
        restore_s, reinit_s = self._membership.form(plan.layout, plan.transfers, self._acts.state_of(newest))
        self._outage.book(restore_s=restore_s, reinit_s=reinit_s)
        self._layout = plan.layout
        if self._me not in plan.layout.workers:
            return False
        if mine is not None:
            self._acts.adopt(newest)
        self._epoch, self._leads = facts.epoch, self._me == plan.layout.members[0]
        found = StepInHand(_claimed(facts, plan.layout, newest.act), _takers(facts, plan.layout))
        self._acts.enter(self._me, View(facts.epoch, plan.layout), found, newest.costs)
        self._around.on_layout(plan.layout, self._roster)
        self._announce(before, lost, newest.step, plan)
        return True

    def _plan(self, facts: Facts, before: Layout | None, lost: list[WorkerId]) -> RecoveryPlan:
        """What to do; everybody who computes it comes to the same.

        Raises QuorumLost after the state is safe, and Fenced on the side of a partition that must not go on.
        """
        if before is not None and cut_off(before, facts.workers):
            raise Fenced("most of the workers do not answer, nor do their hosts: they may go on without this side")
        newest = max((report.progress for report in facts.reports), key=lambda progress: progress.act)
        acts = {report.worker: report.progress.act for report in facts.reports}
        wanted = self._sizes(newest)
        fewest = self._config.layout.min_workers
        try:
            if before is None and len(facts.workers) < max(fewest, len(wanted)):
                needed = max(fewest, len(wanted))
                raise QuorumLost(f"{len(facts.workers)} workers are left, at least {needed} are needed")
            return recover(
                before or place_groups(facts.workers, shrink(wanted, min(sum(wanted), len(facts.workers)))),
                Goal(wanted, fewest),
                acts,
                lost=lost,
                leaving=[report.worker for report in facts.reports if report.leaving],
                joining=[worker for worker in facts.workers if before and worker not in before.workers],
            )
        except QuorumLost as error:
            self._stop(facts, error)
            raise

    def _sizes(self, newest: Progress) -> tuple[int, ...]:
        """Members wanted for each stage; those asked for on top come to the stages that cost most."""
        layout = self._config.layout
        costs = stage_costs(newest.costs, layout.stages)
        sizes = layout.sizes(costs)
        return share_members_on(costs, sizes, max(0, newest.goal - sum(sizes)))

    def _stop(self, facts: Facts, why: QuorumLost) -> None:
        """Too few are left: of each stage, the first who has the newest state writes it down, if no stage is lost."""
        newest = max(report.progress.act for report in facts.reports)
        holders: dict[int, WorkerId] = {}
        for report in facts.reports:
            stage = report.layout.role(report.worker)[1] if report.layout else None
            if stage is not None and report.progress.act == newest:
                holders.setdefault(stage, report.worker)
        if len(holders) == self._config.layout.stages and self._stage is not None and self._me in holders.values():
            self._acts.commit_now(self._stage)
        if self._me == facts.reports[0].worker:
            step = max(report.progress.step for report in facts.reports)
            self._around.trace.emit(TrainingStopped, step=step, reason=str(why))

    # -- books ---------------------------------------------------------------------------------------------------

    def _open_books(self, facts: Facts, before: Layout | None, lost: list[WorkerId], step: int) -> None:
        """Lost members cost something; lost spares only their name in the trace."""
        if before is None or not lost:
            return
        hung = {name for report in facts.reports for name in report.hung}

        def kind(worker: WorkerId) -> Kind:
            if str(worker) in hung:
                return "hang"
            planned = self._around.kills(self._roster.number(worker), before.role(worker)[0])
            return "kill" if planned else "lost"

        kinds = {worker: kind(worker) for worker in lost}
        members = [worker for worker in lost if worker in before.members]
        self._outage.add(members, facts, kinds, step=step, fallback_at=self._well_at)
        if self._me == facts.reports[0].worker:
            for worker in lost:
                role = before.role(worker)[0].value
                self._around.trace.emit(WorkerLost, worker=str(worker), kind=kinds[worker], role=role, step=step)

    def _announce(self, before: Layout | None, lost: list[WorkerId], step: int, plan: RecoveryPlan) -> None:
        """The leader tells the trace about the new layout."""
        if not self._leads or self._layout is None:
            return
        if before is None:
            self._around.trace.emit(TrainingStarted, resumed=step > 0, **self._acts.describe())
        reason = "start" if before is None else "failure" if lost else "change"
        self._around.trace.emit(ViewAgreed, epoch=self._epoch, layout=self._layout, step=step, reason=reason)
        for promotion in plan.promotions:
            worker, instead_of = str(promotion.worker), str(promotion.instead_of)
            self._around.trace.emit(Promoted, worker=worker, stage=promotion.stage, instead_of=instead_of)

    def _book_recovery(self) -> None:
        """An act is finished: whatever failed before it is over."""
        for failure in self._outage.close():
            if self._leads:
                self._around.trace.emit(FailureRecovered, epoch=self._epoch, **failure)
        self._well_at = time.time()


def _claimed(facts: Facts, layout: Layout, act: int) -> Spans:
    """Positions of the act in hand whose gradients some member of the new layout holds."""
    claimed = Spans()
    for report in facts.reports:
        if report.worker in layout.members and report.progress.act == act:
            claimed |= report.held
    return claimed


def _takers(facts: Facts, layout: Layout) -> tuple[WorkerId, ...]:
    """On each host as many members as it has processors; all of those that have a device of their own."""
    chosen: list[WorkerId] = []
    for member in layout.members:
        processors = facts.report(member).processors
        if not processors or sum(taker.host == member.host for taker in chosen) < processors:
            chosen.append(member)
    return tuple(chosen)
