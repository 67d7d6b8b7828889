"""What came of one run of the soak: a pure function of what was done to it and of its trace.

Whoever was struck may be lost; everybody else who is lost is one too many. Newcomers that were never part of a group
are another matter: when the group changes before they are let in they have to end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from common import short

from ft_horovod.core.errors import EXIT_FENCED, EXIT_REQUEUE
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.trace import (
    AnyEvent,
    FailureRecovered,
    HangDetected,
    RunStarted,
    TrainingFinished,
    TrainingStarted,
    TrainingStopped,
    ViewAgreed,
    WorkerFailed,
    WorkerFinished,
    WorkerLeft,
    WorkerLost,
)
from ft_horovod.status.summary import summarize


class Strike(msgspec.Struct, frozen=True, kw_only=True):
    """One signal sent to one worker. `phase` is what it was doing by its own account, `burst`: right after another."""

    worker: str
    kind: Literal["kill", "hang"]
    time_s: float
    phase: str
    burst: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one run; workers are named without their host.

    extra_lost        agreed to be lost, or gone when the run ended, although nobody struck them
    failed            ended with an error of their own: worker and message; giving up for want of workers is none
    newcomers_fenced  ended because the group changed before they joined it
    false_hang_kills  killed as stuck although nobody struck them
    late_deaths       killed as stuck, but they were dying of our SIGKILL
    samples_wrong     what is wrong with the samples' books of a finished run; None: nothing
    weights_agree     None: the run did not finish, or nobody said
    names_stage       the run gave up and said which stage was lost
    recoveries_s      total of each recovery
    """

    outcome: str | None
    steps: int | None
    kills: int
    hangs: int
    extra_lost: tuple[str, ...]
    failed: tuple[str, ...]
    newcomers_fenced: int
    false_hang_kills: tuple[str, ...]
    late_deaths: int
    samples_wrong: str | None
    weights_agree: bool | None
    names_stage: bool
    recoveries_s: tuple[float, ...]

    @property
    def suspicious(self) -> bool:
        """Whether the run is worth keeping for a closer look."""
        bad = self.extra_lost or self.failed or self.false_hang_kills or self.samples_wrong
        return bool(bad) or self.weights_agree is False or self.outcome != "finished"


def judge(events: Sequence[AnyEvent], strikes: Sequence[Strike], *, hung: bool) -> Verdict:
    """The verdict on a run that has ended, or that was ended by us because it `hung`."""
    summary = summarize(events)
    struck = {strike.worker for strike in strikes}
    stopped = {strike.worker for strike in strikes if strike.kind == "hang"}
    grouped = {str(w) for event in events if isinstance(event, ViewAgreed) for w in event.layout.workers}
    accused = [event.worker for event in events if isinstance(event, HangDetected)]
    errors = [event for event in events if isinstance(event, WorkerFailed) and event.exit_code != EXIT_REQUEUE]
    fenced = [e for e in errors if e.exit_code == EXIT_FENCED and e.worker not in grouped]
    return Verdict(
        outcome=summary.outcome,
        steps=summary.steps,
        kills=sum(strike.kind == "kill" for strike in strikes),
        hangs=sum(strike.kind == "hang" for strike in strikes),
        extra_lost=tuple(map(short, sorted(_gone(events, hung=hung) - struck))),
        failed=tuple(f"{short(e.worker)}: exit {e.exit_code}: {e.message}" for e in errors if e not in fenced),
        newcomers_fenced=len(fenced),
        false_hang_kills=tuple(short(worker) for worker in accused if worker not in struck),
        late_deaths=sum(worker in struck - stopped for worker in accused),
        samples_wrong=_samples_wrong(events, summary.samples_exact),
        weights_agree=summary.weights_agree,
        names_stage=any("stage" in event.reason for event in events if isinstance(event, TrainingStopped)),
        recoveries_s=tuple(event.total_s for event in events if isinstance(event, FailureRecovered)),
    )


def _gone(events: Sequence[AnyEvent], *, hung: bool) -> set[str]:
    """Workers that were agreed to be lost, and members of the last group that ended without a word."""
    lost = {event.worker for event in events if isinstance(event, WorkerLost)}
    views = [event for event in events if isinstance(event, ViewAgreed)]
    if views and not hung:
        said_so = {event.worker for event in events if isinstance(event, WorkerFinished | WorkerFailed | WorkerLeft)}
        lost |= {str(worker) for worker in views[-1].layout.members} - said_so
    return lost


def _samples_wrong(events: Iterable[AnyEvent], exact: bool | None) -> str | None:
    begun: TrainingStarted | None = None
    ended: TrainingFinished | None = None
    batch = 0
    for event in events:
        match event:
            case RunStarted():
                batch = event.batch_size
            case TrainingStarted():
                begun = event
            case TrainingFinished():
                ended = event
            case _:
                pass
    if begun is None or ended is None:
        return None
    order = SampleOrder(begun.train_samples, batch, 0)  # how many there are does not depend on the seed
    expected = sum(len(order.positions(step)) for step in range(begun.steps))
    if ended.samples != expected:
        return f"{ended.samples} samples instead of {expected}"
    return None if exact else "not every sample was used exactly as planned"
