"""A recorded live run, as far as the simulator cares: its shape, its faults, its steps and its failures.

Knows the names of the files in a run folder and core's trace; takes nothing else from the folder.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import PlannedFault
from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    FailureRecovered,
    FaultInjected,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    ViewAgreed,
    WorkerLost,
    decode_lines,
)
from simulator.files import read_bytes, read_yaml

_SOON_S = 30.0  # a fault and the failure it causes are this close


class LiveFailure(msgspec.Struct, frozen=True, kw_only=True):
    """One failure of a live run. `within`: where in its step it struck, 0 to 1. `cost_s`: what the step took longer.

    `filled`: a spare took the place, and needed the state.
    """

    worker: str
    kind: str
    step: int
    within: float
    phases_s: dict[str, float]
    total_s: float
    cost_s: float
    filled: bool


class LiveRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `steps_s` holds the steps that no failure touched, by the number of members that did them."""

    name: str
    workers: int
    spares: int
    steps: int
    wall_s: float
    useful_s: float
    recovery_s: float
    steps_s: dict[int, list[float]]
    failures: tuple[LiveFailure, ...]
    commit_stalls_s: tuple[float, ...]
    commit_writes_s: tuple[float, ...]
    rejoin_s: tuple[float, ...]
    min_workers: int = 1

    @property
    def typical_step_s(self) -> float:
        return statistics.median([step_s for some in self.steps_s.values() for step_s in some])


def read_events(folder: Path) -> list[AnyEvent]:
    """The merged trace of a run folder. Raises ConfigError when there is none."""
    path = folder / "trace.jsonl"
    events = sorted(decode_lines(read_bytes(path).splitlines(keepends=True)), key=lambda event: event.time_s)
    if not events:
        raise ConfigError("is empty: there is no event in it", source=str(path))
    return events


def read_live(folder: Path) -> LiveRun:
    """Read a run folder. Raises ConfigError when there is no run in it, or one that never trained."""
    events = read_events(folder)
    config = read_yaml(folder / "config.yaml", RunConfig)
    faults = folder / "faults.json"
    planned = msgspec.json.decode(read_bytes(faults), type=list[PlannedFault]) if faults.exists() else []
    started = next((event for event in events if isinstance(event, RunStarted)), None)
    begun = next((event for event in events if isinstance(event, TrainingStarted)), None)
    steps = {event.step: event for event in events if isinstance(event, StepFinished)}
    if started is None or begun is None or not steps:
        raise ConfigError("a run that never trained", source=str(folder / "trace.jsonl"))
    ended = next((event for event in reversed(events) if isinstance(event, TrainingFinished)), events[-1])
    calm = _calm_steps(events, steps)
    typical_s = statistics.median([step_s for some in calm.values() for step_s in some] or [1.0])
    commits = [event for event in events if isinstance(event, CommitWritten)]
    return LiveRun(
        name=folder.resolve().name,
        workers=started.workers,
        spares=started.spares,
        min_workers=config.layout.min_workers,
        steps=begun.steps,
        wall_s=ended.time_s - begun.time_s,
        useful_s=sum(step.step_s - step.recovery_s for step in steps.values()),
        recovery_s=sum(step.recovery_s for step in steps.values()),
        steps_s=calm,
        failures=_failures(events, steps, planned, typical_s),
        commit_stalls_s=tuple(event.stall_s for event in commits),
        commit_writes_s=tuple(event.write_s for event in commits),
        rejoin_s=_rejoins(events),
    )


def _calm_steps(events: Sequence[AnyEvent], steps: dict[int, StepFinished]) -> dict[int, list[float]]:
    """Undisturbed steps by members; the first of a run, which warms caches, is left out."""
    calm: dict[int, list[float]] = {}
    members = 0
    for event in events:
        if isinstance(event, ViewAgreed):
            members = len(event.layout.members)
        elif (
            isinstance(event, StepFinished) and event.recovery_s == 0 and event.step > 0 and steps[event.step] is event
        ):
            calm.setdefault(members, []).append(event.step_s)
    return calm


def _failures(
    events: Sequence[AnyEvent], steps: dict[int, StepFinished], planned: Sequence[PlannedFault], typical_s: float
) -> tuple[LiveFailure, ...]:
    injected = [event for event in events if isinstance(event, FaultInjected)]
    found, members, before_members = [], 0, 0
    told: set[tuple[int, int]] = set()
    for event in events:
        if isinstance(event, ViewAgreed):
            before_members, members = members, len(event.layout.members)
        if not isinstance(event, FailureRecovered) or (event.epoch, event.step) in told:
            continue
        told.add((event.epoch, event.step))  # workers lost together have one recovery
        fault = next((f for f in injected if f.worker == event.worker and event.time_s - f.time_s < _SOON_S), None)
        step = steps.get(event.step)
        phases = ("detect", "shrink", "replan", "restore", "reinit", "redo")
        found.append(
            LiveFailure(
                worker=event.worker,
                kind=event.kind,
                step=event.step,
                within=_within(fault, event, steps, planned, typical_s),
                phases_s={name: getattr(event, f"{name}_s") for name in phases},
                total_s=event.total_s,
                cost_s=step.recovery_s if step else event.total_s,
                filled=members >= before_members,
            )
        )
    return tuple(found)


def _within(
    fault: FaultInjected | None,
    failure: FailureRecovered,
    steps: dict[int, StepFinished],
    planned: Sequence[PlannedFault],
    typical_s: float,
) -> float:
    """Where in the step it struck: as the schedule says, else from the times in the trace, else in the middle."""
    for plan in planned:
        if plan.step == failure.step and fault is not None and plan.kind == fault.kind:
            return plan.within
    before = steps.get(failure.step - 1)
    if fault is None or before is None:
        return 0.5
    return min(1.0, max(0.0, (fault.time_s - before.time_s) / typical_s))


def _rejoins(events: Sequence[AnyEvent]) -> tuple[float, ...]:
    """From each loss that left a gap until the group was whole again, in seconds."""
    gaps: list[float] = []
    whole, since = 0, None
    for event in events:
        if isinstance(event, ViewAgreed):
            members = len(event.layout.members)
            whole = whole or members
            if members >= whole and since is not None:
                gaps.append(event.time_s - since)
                since = None
            elif members < whole and since is None:
                since = event.time_s
        elif isinstance(event, WorkerLost) and event.role != "spare" and since is not None:
            since = event.time_s
    return tuple(gaps)
