"""Who is there and how they fare: a fold over a trace.

Knows workers, the layout of the newest epoch and failures that are not over yet. It does not know progress or times
spent; `progress` and `ledger` do.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from ft_horovod.core.identity import Role, WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.trace import (
    AnyEvent,
    FailureRecovered,
    FaultInjected,
    HangDetected,
    NewcomerDismissed,
    RunStarted,
    SlowDetected,
    StepFinished,
    ViewAgreed,
    WorkerFailed,
    WorkerFinished,
    WorkerLeft,
    WorkerLost,
    WorkerStarted,
)


class WorkerState(enum.Enum):
    """What a worker does now, as far as the trace tells."""

    STARTED = "started"
    TRAINING = "training"
    SPARE = "spare"
    HUNG = "hung"
    LOST = "lost"
    LEFT = "left"
    FINISHED = "finished"


GONE = frozenset({WorkerState.LOST, WorkerState.LEFT})


@dataclass(slots=True)
class Worker:
    """One process. `samples` is its even share of a step's batch, computed from the layout; `fate` says how it went."""

    name: str
    host: str
    number: int | None = None
    pid: int | None = None
    state: WorkerState = WorkerState.STARTED
    role: Role | None = None
    stage: int | None = None
    samples: int = 0
    fate: str = ""
    fate_step: int | None = None
    slow_factor: float | None = None


@dataclass(slots=True)
class Pending:
    """A failure that was seen or injected and whose recovery has not been reported yet."""

    kind: str
    worker: str
    step: int | None
    since_s: float
    until_s: float | None = None  # a hang that ends by itself
    silent_s: float | None = None
    settled_step: int | None = None  # once steps beyond this one finish, nothing more will be reported


@dataclass(slots=True)
class Crew:
    """All workers ever seen in this attempt, and the newest membership."""

    workers: dict[str, Worker] = field(default_factory=dict)
    layout: Layout | None = None
    epoch: int | None = None
    batch_size: int = 0
    step: int = 0
    pending: dict[str, Pending] = field(default_factory=dict)

    def apply(self, event: AnyEvent) -> None:
        """Take in one event."""
        match event:
            case RunStarted():
                self.workers.clear()
                self.pending.clear()
                self.layout, self.epoch, self.batch_size = None, None, event.batch_size
            case WorkerStarted():
                self._start(event)
            case ViewAgreed():
                self._agree(event)
            case StepFinished():
                self.step = event.step + 1
                self._settle(event)
            case FaultInjected() | HangDetected():
                self._strike(event)
            case WorkerLost():
                self._lose(event)
            case SlowDetected():
                worker = self._worker(event.worker)
                worker.slow_factor = event.factor if event.factor > 1 else None
            case FailureRecovered():
                self.pending.pop(event.worker, None)
                self._gone(event.worker, WorkerState.LOST, event.kind, event.step)
            case WorkerLeft() | NewcomerDismissed():
                self.pending.pop(event.worker, None)
                why, step = ("leave", event.step) if isinstance(event, WorkerLeft) else ("not needed", None)
                self._gone(event.worker, WorkerState.LEFT, why, step)
            case WorkerFailed():
                self._gone(event.worker, WorkerState.LOST, f"exit {event.exit_code}", None)
            case WorkerFinished():
                self._worker(event.worker).state = WorkerState.FINISHED
            case _:
                pass

    def count(self, *states: WorkerState) -> int:
        """How many workers are in one of the states."""
        return sum(worker.state in states for worker in self.workers.values())

    def in_order(self) -> Iterator[Worker]:
        """All workers by number in launch order, those without one last."""
        return iter(sorted(self.workers.values(), key=lambda w: (w.number is None, w.number or 0, w.name)))

    def _worker(self, name: str) -> Worker:
        if name not in self.workers:
            self.workers[name] = Worker(name, host=name.rpartition(":")[0] or name)
        return self.workers[name]

    def _gone(self, name: str, state: WorkerState, fate: str, step: int | None) -> None:
        worker = self._worker(name)
        worker.state, worker.fate, worker.slow_factor = state, fate, None
        worker.fate_step = step if worker.fate_step is None else worker.fate_step

    def _start(self, event: WorkerStarted) -> None:
        """A process is up. One that restarts a lost one after a resume may have its name, and is a new worker."""
        known = self.workers.get(event.worker)
        if known is not None and known.pid not in (None, event.pid):
            del self.workers[event.worker]
            self.pending.pop(event.worker, None)
        worker = self._worker(event.worker)
        worker.number, worker.host, worker.pid = event.number, event.host, event.pid

    def _agree(self, event: ViewAgreed) -> None:
        before, self.layout, self.epoch = self.layout, event.layout, event.epoch
        for group in event.layout.groups:
            size, rest = divmod(self.batch_size, len(group.members))
            for index, member in enumerate(group.members):
                role = Role.BACKUP if index else Role.LEADER
                self._place(member, role, group.stage, size + (index < rest))
        for spare in event.layout.spares:
            self._place(spare, Role.SPARE, None, 0)
        if event.reason == "start":
            self.pending.clear()
        for worker in set(before.workers if before else ()) - set(event.layout.workers):
            self._leave_out(self._worker(str(worker)), event)

    def _leave_out(self, worker: Worker, event: ViewAgreed) -> None:
        """A worker is not in the new layout."""
        if worker.name in self.pending:
            self.pending[worker.name].settled_step = event.step + 1
        if worker.state not in GONE:
            left = event.reason == "change" and worker.name not in self.pending
            self._gone(worker.name, *((WorkerState.LEFT, "leave") if left else (WorkerState.LOST, "lost")), event.step)

    def _lose(self, event: WorkerLost) -> None:
        """The survivors agree on a loss; that of a spare is over with that."""
        known = self.pending.pop(event.worker, None)
        worker = self._worker(event.worker)
        worker.fate_step = None
        self._gone(event.worker, WorkerState.LOST, event.kind, event.step)
        if event.role != "spare":
            since_s = known.since_s if known else event.time_s
            silent_s = known.silent_s if known else None
            self.pending[event.worker] = Pending(event.kind, event.worker, event.step, since_s, silent_s=silent_s)

    def _place(self, member: WorkerId, role: Role, stage: int | None, samples: int) -> None:
        worker = self._worker(str(member))
        worker.role, worker.stage, worker.samples = role, stage, samples
        if worker.name not in self.pending:
            worker.state = WorkerState.SPARE if role is Role.SPARE else WorkerState.TRAINING

    def _strike(self, event: FaultInjected | HangDetected) -> None:
        worker = self._worker(event.worker)
        match event:
            case HangDetected():
                known = self.pending.get(event.worker)
                self.pending[event.worker] = Pending(
                    kind="hang",
                    worker=event.worker,
                    step=known.step if known else self.step,
                    since_s=known.since_s if known else event.time_s - event.silent_s,
                    silent_s=event.silent_s,
                )
                self._gone(event.worker, WorkerState.LOST, "hang", None)
            case FaultInjected(kind="kill"):
                self.pending[event.worker] = Pending("kill", event.worker, event.step, event.time_s)
                self._gone(event.worker, WorkerState.LOST, "kill", event.step)
            case FaultInjected(kind="hang"):
                until_s = None if event.duration_s is None else event.time_s + event.duration_s
                self.pending[event.worker] = Pending("hang", event.worker, event.step, event.time_s, until_s)
                worker.state = WorkerState.HUNG
            case _:
                pass

    def _settle(self, event: StepFinished) -> None:
        """Drop what a finished step proves to be over."""
        for pending in list(self.pending.values()):
            worker = self._worker(pending.worker)
            if worker.state is WorkerState.HUNG and pending.until_s is not None and event.time_s >= pending.until_s:
                worker.state = WorkerState.SPARE if worker.role is Role.SPARE else WorkerState.TRAINING
                del self.pending[pending.worker]
            elif pending.settled_step is not None and event.step > pending.settled_step:
                del self.pending[pending.worker]
