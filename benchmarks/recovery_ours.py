"""Recovery of our trainer: which kills a run gets, and what its trace says they cost.

Pure functions: a fault schedule out of random numbers, figures out of events. Nothing here starts a process.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec
from common import short

from ft_horovod.core.schedule import At, Fault, FaultSchedule, Target
from ft_horovod.core.trace import AnyEvent, FailureRecovered, FaultInjected, StepFinished, ViewAgreed
from ft_horovod.status.ledger import PHASES, phase_s

Blow = Literal["kill", "hang"]

_FIRST_STEP = 12
_GAP_STEPS = 12
_REST_STEPS = 6
_COLD_STEPS = 3  # the run's first steps are slower
_SAME_VIEW_STEPS = 5  # so many undisturbed steps of one group tell how long its steps take


class KillCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one kill cost, in seconds.

    `total_s` is the time from right before SIGKILL to the end of the first step that the group finishes without the
    victim; a step that was as good as done and is finished in spite of the kill does not count. `step_s` is the median
    undisturbed step of the group that was struck. `less_one_step_s` may be negative: part of the step was done when the
    kill came, and survivors keep it. `delay_s` is how much longer than a step it was from the end of the step before to
    the end of the one that recovered: what training lost. `kind` is how the survivors took the loss, `phases` where the
    time went by their own books, which start at the victim's last sign of life.
    """

    victim: str
    leader: bool
    members_before: int
    members_after: int
    step: int
    total_s: float
    step_s: float
    less_one_step_s: float
    delay_s: float
    kind: str | None
    phases: dict[str, float]


def draw_kills(
    rng: random.Random, workers: int, spares: int, number: int, kind: Blow = "kill"
) -> tuple[FaultSchedule, int]:
    """Kills, or hangs, for the run of this number, and how many steps it needs.

    With spares as many as there are, else until half of the workers are left. Every other kill strikes the leader,
    beginning with the first of odd runs and the second of even ones, the others anybody else.
    """
    kills = spares or workers // 2
    living = list(range(workers))
    step, faults = _FIRST_STEP, []
    for kill in range(kills):
        victim = living[0] if (number + kill) % 2 else rng.choice(living[1:])
        living.remove(victim)
        faults.append(Fault(kind=kind, at=At(step=step, within=rng.random()), target=Target(worker=victim)))
        step += _GAP_STEPS + rng.randrange(3)
    return FaultSchedule(version=1, seed=number, faults=tuple(faults)), step - _GAP_STEPS + _REST_STEPS + 3


def costs(events: Sequence[AnyEvent], kind: Blow = "kill") -> list[KillCost]:
    """What each kill, or hang, of a run cost; one after which no step was finished any more has no entry."""
    kills = [event for event in events if isinstance(event, FaultInjected) and event.kind == kind]
    found = (_cost(events, kill) for kill in kills)
    return [cost for cost in found if cost is not None]


def _cost(events: Sequence[AnyEvent], kill: FaultInjected) -> KillCost | None:
    views = [event for event in events if isinstance(event, ViewAgreed)]
    change = next((pair for pair in pairwise(views) if _drops(*pair, kill.worker)), None)
    if change is None:
        return None
    before, after = change
    recovered = next(
        (e for e in events if isinstance(e, StepFinished) and e.epoch >= after.epoch and e.time_s > kill.time_s), None
    )
    if recovered is None:
        return None
    before_it = max(e.time_s for e in events if isinstance(e, StepFinished) and e.time_s < recovered.time_s)
    report = next((e for e in events if isinstance(e, FailureRecovered) and e.worker == kill.worker), None)
    total_s, step_s = recovered.time_s - kill.time_s, _typical_step_s(events, before.epoch, kill.time_s)
    return KillCost(
        victim=short(kill.worker),
        leader=str(before.layout.members[0]) == kill.worker,
        members_before=len(before.layout.members),
        members_after=len(after.layout.members),
        step=kill.step,
        total_s=total_s,
        step_s=step_s,
        less_one_step_s=total_s - step_s,
        delay_s=recovered.time_s - before_it - step_s,
        kind=report.kind if report else None,
        phases=dict(zip(PHASES, phase_s(report), strict=True)) if report else {},
    )


def _drops(before: ViewAgreed, after: ViewAgreed, worker: str) -> bool:
    return worker in map(str, before.layout.workers) and worker not in map(str, after.layout.workers)


def _typical_step_s(events: Sequence[AnyEvent], epoch: int, until_s: float) -> float:
    """Median of the undisturbed steps before `until_s`: of this epoch's group when it has made enough of them."""
    steps = [
        event
        for event in events
        if isinstance(event, StepFinished)
        and event.time_s < until_s
        and event.recovery_s == 0
        and event.step >= _COLD_STEPS
    ]
    same_view = [event for event in steps if event.epoch == epoch]
    chosen = same_view if len(same_view) >= _SAME_VIEW_STEPS else steps
    return statistics.median(event.step_s for event in chosen)
