"""A run that never ran: builds the trace a run would leave, with the real event classes and the real recovery plan."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, place
from ft_horovod.core.recovery import Goal, recover
from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    Evaluated,
    FailureRecovered,
    FaultInjected,
    HangDetected,
    RunFinished,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    ViewAgreed,
    WorkerFinished,
    WorkerLeft,
    WorkerLost,
    WorkerStarted,
    encode,
)

WEIGHTS = "3f2a91bc5d" + "0" * 54
PHASE_SHARES = {"shrink_s": 0.04, "replan_s": 0.01, "restore_s": 0.02, "reinit_s": 0.12, "redo_s": 0.5}


class FakeRun:
    """Each method appends what a live run would write meanwhile, and moves `now_s` on."""

    def __init__(
        self,
        *,
        workers: int = 4,
        spares: int = 2,
        stages: int = 1,
        hosts: Sequence[str] = ("n1",),
        steps: int = 100,
        step_s: float = 0.1,
    ) -> None:
        self.members, self.spares, self.stages, self.steps, self.step_s = workers, spares, stages, steps, step_s
        per_host = math.ceil((workers + spares) / len(hosts))
        self.roster = [WorkerId(hosts[i // per_host], i % per_host) for i in range(workers + spares)]
        self.layout: Layout = place(self.roster, workers, stages)
        self.batch_size, self.epoch, self.step = 64, 0, 0
        self.now_s = self.began_s = 1_763_722_800.0
        self.random = random.Random(7)
        self.owed_s = 0.0
        self.open: list[FailureRecovered] = []
        self.events: list[AnyEvent] = []

    @property
    def leader(self) -> str:
        return str(self.layout.members[0])

    def started(self, *, step: int = 0, run: str = "kills-on-digits") -> FakeRun:
        """The launcher, the workers, the first view and the start of training."""
        self.step, self.epoch = step, 0
        self.events.append(
            RunStarted(
                time_s=self.now_s,
                by="launcher",
                run=run,
                workers=self.members,
                spares=self.spares,
                min_workers=1,
                model="resnet18",
                data="digits",
                batch_size=self.batch_size,
                launcher="mpirun",
                version="0.1.0",
            )
        )
        for number, worker in enumerate(self.roster):
            self.now_s += 2.0 if number == 0 else 0.01
            self._worker_started(worker, number)
        self.now_s += 0.5
        self.events.append(
            TrainingStarted(
                time_s=self.now_s,
                by=self.leader,
                step=step,
                steps=self.steps,
                steps_per_epoch=23,
                train_samples=1437,
                test_samples=360,
                parameters=11_173_962,
                resumed=step > 0,
            )
        )
        self._view("start")
        return self

    def train(self, count: int = 1) -> FakeRun:
        """Finish steps."""
        for _ in range(count):
            useful_s = self.step_s * self.random.uniform(0.9, 1.15)
            self.now_s += useful_s
            self._step_finished(useful_s)
        return self

    def strike(
        self, victim: WorkerId | None = None, kind: Literal["kill", "hang"] = "kill", *, recovered: bool = True
    ) -> FakeRun:
        """A member dies or hangs in the middle of the step in hand; the others recover and finish it, or not yet.

        Unless told whom, the last backup of the largest stage.
        """
        victim = victim or max(self.layout.groups, key=lambda group: len(group.members)).members[-1]
        struck_s = self.now_s + 0.4 * self.step_s
        self._at(struck_s, FaultInjected, by=str(victim), kind=kind, worker=str(victim), step=self.step)
        if not recovered:
            self.now_s = struck_s
            return self
        detect_s = self.random.uniform(0.008, 0.03)
        if kind == "hang":
            detect_s += 1.0
            limits = {"silent_s": 1.002, "limit_s": 1.0, "phase": "backward"}
            watcher = str(next(worker for worker in self.layout.members if worker != victim))
            self._at(struck_s + 1.002, HangDetected, by=watcher, worker=str(victim), **limits)
        phases = {name: self.random.uniform(0.4, 1.6) * 0.06 * share for name, share in PHASE_SHARES.items()}
        total_s = detect_s + sum(phases.values())
        role = self.layout.role(victim)[0].value
        layout = self._recovered_layout(lost=[victim])
        self.now_s = struck_s + detect_s + phases["shrink_s"]
        self._at(self.now_s, WorkerLost, worker=str(victim), kind=kind, role=role, step=self.step)
        self.now_s = struck_s + total_s - phases["redo_s"]
        self.layout, self.epoch = layout, self.epoch + 1
        self._view("failure")
        self.now_s = struck_s + total_s
        self.owed_s += total_s
        self._step_finished(0.4 * self.step_s)
        phases |= {"detect_s": detect_s, "noticed_s": detect_s / 3, "total_s": total_s}
        self._at(
            self.now_s, FailureRecovered, kind=kind, worker=str(victim), step=self.step, epoch=self.epoch, **phases
        )
        return self

    def lose_spare(self) -> FakeRun:
        """A spare dies, which costs nothing."""
        victim = self.layout.spares[0]
        self._at(self.now_s, FaultInjected, by=str(victim), kind="kill", worker=str(victim), step=self.step)
        self.now_s += 0.02
        self.layout, self.epoch = self._recovered_layout(lost=[victim]), self.epoch + 1
        self._at(self.now_s, WorkerLost, worker=str(victim), kind="kill", role="spare", step=self.step)
        self._view("failure")
        return self

    def leave(self, worker: WorkerId) -> FakeRun:
        """A member hands over and leaves."""
        self.layout, self.epoch = self._recovered_layout(leaving=[worker]), self.epoch + 1
        self._view("change")
        self._at(self.now_s + 0.001, WorkerLeft, by=str(worker), worker=str(worker), step=self.step)
        return self

    def join(self, slot: int) -> FakeRun:
        """A newcomer comes in, as a spare that fills a gap if there is one."""
        worker = WorkerId(self.roster[0].host, slot, 1)
        self.roster.append(worker)
        self._worker_started(worker, None)
        self.layout, self.epoch = self._recovered_layout(joining=[worker]), self.epoch + 1
        self._view("change")
        return self

    def commit(self) -> FakeRun:
        """A commit to disk, without standing still for long."""
        self.now_s += 0.004
        size = {"stall_s": 0.004, "write_s": 0.31, "size_bytes": 89_400_000, "path": f"commits/step-{self.step:08}"}
        self._at(self.now_s, CommitWritten, step=self.step, tier="disk", **size)
        return self

    def evaluate(self, accuracy: float = 0.9731) -> FakeRun:
        """Half a second of evaluation."""
        self.now_s += 0.5
        self._at(self.now_s, Evaluated, step=self.step, accuracy=accuracy, samples=360)
        return self

    def finish(self) -> FakeRun:
        """The end: training, workers, launcher."""
        end = {"final_loss": 0.0312, "weights_sha256": WEIGHTS, "samples_exact": True}
        self._at(self.now_s, TrainingFinished, step=self.step, samples=self.step * self.batch_size, **end)
        for worker in self.layout.workers:
            weights = WEIGHTS if worker in self.layout.members else None
            self._at(self.now_s + 0.01, WorkerFinished, by=str(worker), worker=str(worker), weights_sha256=weights)
        self.now_s += 0.3
        return self.ended("finished")

    def ended(self, outcome: str, message: str = "") -> FakeRun:
        """The launcher's last word."""
        self._at(self.now_s, RunFinished, by="launcher", outcome=outcome, message=message)
        return self

    def _at(self, time_s: float, event: type[AnyEvent], /, **fields: object) -> None:
        self.events.append(event(**{"time_s": time_s, "by": self.leader, **fields}))

    def _worker_started(self, worker: WorkerId, number: int | None) -> None:
        who = {"by": str(worker), "worker": str(worker), "host": worker.host, "pid": 4000 + self.roster.index(worker)}
        self._at(self.now_s, WorkerStarted, number=number, late=number is None, **who)

    def _view(self, reason: str) -> None:
        self._at(self.now_s, ViewAgreed, epoch=self.epoch, layout=self.layout, step=self.step, reason=reason)

    def _step_finished(self, useful_s: float) -> None:
        step_s, self.owed_s = useful_s + self.owed_s, 0.0
        loss = 2.3 * math.exp(-3.5 * self.step / self.steps) + 0.03 + self.random.uniform(0, 0.06)
        told = {"step_s": step_s, "recovery_s": step_s - useful_s, "loss": loss, "samples": self.batch_size, "lr": 0.05}
        self._at(self.now_s, StepFinished, epoch=self.epoch, step=self.step, **told)
        self.step += 1

    def _recovered_layout(self, **changes: Sequence[WorkerId]) -> Layout:
        goal = Goal(tuple(len(group.members) for group in place(self.roster, self.members, self.stages).groups))
        steps = dict.fromkeys(self.layout.workers, self.step)
        return recover(self.layout, goal, steps, **changes).layout


def killed_and_hung(steps: int = 100, **shape: object) -> FakeRun:
    """A whole run with two kills, a hang, a lost spare, commits and an evaluation."""
    run = FakeRun(steps=steps, **shape).started().train(steps // 5).strike(kind="kill")
    run.commit().train(steps // 5).strike(run.layout.members[0], kind="hang").train(steps // 10)
    run.commit()
    if run.layout.spares:
        run.lose_spare()
    run.strike()
    return run.train(steps - run.step).evaluate().finish()


def write_parts(run_dir: Path, events: list[AnyEvent]) -> None:
    """Write events as the processes of a run would: each to the file of who wrote it."""
    folder = run_dir / "trace"
    folder.mkdir(exist_ok=True)
    for event in events:
        with (folder / f"{event.by.replace(':', '-').replace('#', '-')}.jsonl").open("ab") as file:
            file.write(encode(event))
