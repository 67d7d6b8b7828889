"""The figures of a run, from its trace alone: what `summary.json` holds.

Knows how each figure is defined. A figure that the trace does not tell is None, never a guess.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ft_horovod.core.trace import AnyEvent, FailureRecovered, WorkerFinished, WorkerLost, WorkerStarted
from ft_horovod.status.ledger import PHASES, Ledger, median_s, phase_s
from ft_horovod.status.run_state import RunState


class FailureSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One lost worker. The phases, in seconds, add up to `total_s`; `noticed_s` is a part of `detect_s`.

    Workers lost in one recovery each have an entry with the `epoch` that the recovery led to.
    """

    kind: str
    worker: str
    step: int
    epoch: int
    detect_s: float
    noticed_s: float
    shrink_s: float
    replan_s: float
    restore_s: float
    reinit_s: float
    redo_s: float
    total_s: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run. Durations are seconds.

    outcome            the launcher's last word; None: it has none
    message            what it said with it
    steps              optimizer steps the model has had: the number of the last finished step, plus one
    steps_planned      what it should have had
    workers_started    processes that met the others, those that joined later included
    workers_finished   processes that reached the end
    workers_lost       processes that the others agreed to be lost, spares included; failures has the members only
    startup_s          RunStarted to TrainingStarted
    wall_s             TrainingStarted to TrainingFinished, or to the last event when training did not finish. Of a run
                       that was resumed in its folder: from its first start, the time between launches included
    useful_s           sum of step_s - recovery_s over finished steps. A step number that occurs twice (a resumed run,
                       or a new leader that does a step again) counts once, as told last
    recovery_s         sum of recovery_s over the same steps
    other_s            wall_s - useful_s - recovery_s: evaluations, commit stalls, joins, steps whose result was thrown
                       away, time between steps and between launches
    goodput            useful_s / wall_s, clipped to 1 against rounding of clocks
    lost_s             seconds of each recovery phase, summed over recoveries: workers lost together count once
    recovery_median_s  median total of recoveries
    commit_stall_s     how long training stood still for commits; a part of other_s, or of steps
    samples            samples trained on
    samples_exact      every sample was used exactly as often as planned
    final_loss         as the leader reported it at the end
    accuracy           of the last evaluation, a share of 1, after accuracy_step steps
    weights_sha256     of the leader's weights at the end
    weights_agree      every member that finished holds those weights; None: nobody said
    step_median_s      median duration of the steps that no failure touched
    """

    run: str | None
    outcome: str | None
    message: str
    steps: int | None
    steps_planned: int | None
    workers_started: int
    workers_finished: int
    workers_lost: int
    startup_s: float | None
    wall_s: float | None
    useful_s: float
    recovery_s: float
    other_s: float | None
    goodput: float | None
    lost_s: dict[str, float]
    recovery_median_s: float | None
    commit_stall_s: float
    samples: int
    samples_exact: bool | None
    final_loss: float | None
    accuracy: float | None
    accuracy_step: int | None
    weights_sha256: str | None
    weights_agree: bool | None
    step_median_s: float | None
    failures: tuple[FailureSummary, ...]

    def write_summary(self, path: Path) -> None:
        """Write it as JSON, whole or not at all: a crash leaves the old file or the new one. Raises OSError."""
        text = msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"
        new = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with new.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, must outlive a crash of the machine
        finally:
            os.close(folder)


def read_summary(path: Path) -> Summary:
    """Read what `write_summary` wrote. Raises OSError, msgspec.DecodeError or msgspec.ValidationError."""
    return msgspec.json.decode(path.read_bytes(), type=Summary)


def summarize(events: Iterable[AnyEvent]) -> Summary:
    """The figures of the run that `events`, in time order, tell of."""
    state = RunState()
    roll = _Roll()
    for event in events:
        state.apply(event)
        roll.apply(event, state.ledger.attempt)
    ledger, end = state.ledger, state.finished
    wall_s = ledger.wall_s()
    useful_s, recovery_s = ledger.steps.useful_sum_s, ledger.steps.recovery_sum_s
    return Summary(
        run=state.run.run if state.run else None,
        outcome=state.outcome.outcome if state.outcome else None,
        message=state.outcome.message if state.outcome else "",
        steps=ledger.steps_done,
        steps_planned=state.training.steps if state.training else None,
        workers_started=len(roll.started),
        workers_finished=len(roll.weights),
        workers_lost=len(roll.lost),
        startup_s=ledger.startup_s(),
        wall_s=wall_s,
        useful_s=useful_s,
        recovery_s=recovery_s,
        other_s=None if wall_s is None else max(0.0, wall_s - useful_s - recovery_s),
        goodput=ledger.goodput(),
        lost_s=_lost_s(ledger),
        recovery_median_s=median_s(ledger.recoveries()),
        commit_stall_s=ledger.commit_stall_s,
        samples=end.samples if end else ledger.steps.samples_sum,
        samples_exact=end.samples_exact if end else None,
        final_loss=end.final_loss if end else None,
        accuracy=state.evaluation.accuracy if state.evaluation else None,
        accuracy_step=state.evaluation.step if state.evaluation else None,
        weights_sha256=end.weights_sha256 if end else None,
        weights_agree=roll.agree(end.weights_sha256) if end else None,
        step_median_s=ledger.steps.median_s(),
        failures=tuple(map(_failure, ledger.failures)),
    )


@dataclass(slots=True)
class _Roll:
    """Who came and what became of them."""

    started: set[tuple[str, int]] = field(default_factory=set)
    lost: set[tuple[int, str]] = field(default_factory=set)
    weights: dict[tuple[int, str], str | None] = field(default_factory=dict)

    def apply(self, event: AnyEvent, attempt: int) -> None:
        match event:
            case WorkerStarted():
                self.started.add((event.worker, event.pid))
            case WorkerLost():
                self.lost.add((attempt, event.worker))
            case WorkerFinished():
                self.weights[attempt, event.worker] = event.weights_sha256
            case _:
                pass

    def agree(self, weights_sha256: str) -> bool | None:
        told = {weights for weights in self.weights.values() if weights is not None}
        return told == {weights_sha256} if told else None


def _lost_s(ledger: Ledger) -> dict[str, float]:
    sums = dict.fromkeys(PHASES, 0.0)
    for failure in ledger.recoveries():
        for phase, seconds in zip(PHASES, phase_s(failure), strict=True):
            sums[phase] += seconds
    return sums


def _failure(event: FailureRecovered) -> FailureSummary:
    return msgspec.convert(event, FailureSummary, from_attributes=True)
