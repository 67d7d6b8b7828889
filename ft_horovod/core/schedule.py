"""Fault schedules: what fails, when, for how long. They drive live runs and simulations alike.

    version: 1
    seed: 7
    faults:
      - {kind: kill, at: {step: 40}, target: {worker: 2}}
      - {kind: hang, at: {time_s: 30}, target: {random: true}}
      - {kind: kill, at: {every: {mtbf_s: 20, distribution: exponential}}, target: {random: true}, count: 10}

A schedule is data. `resolve` turns it into a list of single faults with a victim and a moment each, drawn from the
schedule's own seed, so that the same file always means the same faults. Who carries them out is not known here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ft_horovod.core.config import Fraction, Index, NonNegative, Positive, Section
from ft_horovod.core.errors import ConfigError

Kind = Literal["kill", "hang", "slow", "leave", "join", "host_loss", "partition", "corrupt_commit", "disk_full"]
PERMANENT: frozenset[str] = frozenset({"kill", "leave"})
LIVE_KINDS: frozenset[str] = frozenset({"kill", "hang", "slow", "leave", "join"})


class Every(Section, frozen=True):
    """A random process of failures."""

    mtbf_s: Positive
    distribution: Literal["exponential", "weibull", "fixed"] = "exponential"
    shape: Annotated[float, Meta(ge=0.1, le=100)] = 1.0  # weibull only; 1: exponential, below: in bursts


class At(Section, frozen=True):
    """The moment: a step and a fraction of it, or a time since training began, or a random process."""

    step: Index | None = None
    within: Fraction | None = None  # where in the step, as a fraction of it; None: drawn
    time_s: NonNegative | None = None
    every: Every | None = None

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.step, self.time_s, self.every)) != 1:
            raise ValueError("exactly one of step, time_s, every")
        if self.within is not None and self.step is None:
            raise ValueError("within goes with step")


class Target(Section, frozen=True):
    """The victim: a worker by its number in launch order, a role, a whole host or rack, or a random worker."""

    worker: Index | None = None
    role: Literal["leader", "backup", "spare"] | None = None
    stage: Index | None = None
    host: str | None = None
    rack: str | None = None
    random: bool = False

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.worker, self.role, self.host, self.rack)) + self.random != 1:
            raise ValueError("exactly one of worker, role, host, rack, random: true")
        if self.stage is not None and self.role is None:
            raise ValueError("stage goes with role")


class Fault(Section, frozen=True):
    """One entry of a schedule."""

    kind: Kind
    at: At
    target: Target | None = None  # join has none
    duration_s: Positive | None = None  # hang and slow end after it; None: never
    factor: Annotated[float, Meta(gt=1)] = 2.0  # slow: how many times slower
    notice_s: NonNegative = 30.0  # leave: notice before the worker would be taken away
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1  # how often a random process strikes

    def __post_init__(self) -> None:
        if (self.target is None) != (self.kind == "join"):
            raise ValueError("join has no target" if self.kind == "join" else f"{self.kind} needs a target")
        if self.count > 1 and self.at.every is None:
            raise ValueError("count goes with at.every")


class FaultSchedule(Section, frozen=True):
    """A whole schedule file."""

    version: Literal[1]
    seed: Index = 0
    faults: tuple[Fault, ...] = ()


class PlannedFault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault with everything drawn: a moment (step and fraction of it, or seconds) and a victim or a role."""

    number: int
    kind: Kind
    step: int | None = None
    within: float = 0.0
    time_s: float | None = None
    worker: int | None = None
    role: str | None = None
    stage: int | None = None
    duration_s: float | None = None
    factor: float = 2.0
    notice_s: float = 30.0


def resolve(
    schedule: FaultSchedule, workers: int, *, stages: int = 1, steps: int | None = None, source: str = "schedule"
) -> tuple[PlannedFault, ...]:
    """Draw everything that is left open, for a run of `workers` processes (spares included).

    A random victim is one that no earlier fault of the schedule takes away. Faults by step come first, in order of
    their step, then those by time. Raises ConfigError naming the entry when a worker, stage or step does not exist, or
    a kind cannot be carried out in a live run of processes.
    """
    for i, fault in enumerate(schedule.faults):
        _check(fault, f"faults[{i}]", workers, stages, steps, source)
    rng = random.Random(schedule.seed)
    single = [part for fault in schedule.faults for part in _moments(fault, rng)]
    single.sort(
        key=lambda part: (part[1].time_s is not None, part[1].step or 0, part[1].within or 0, part[1].time_s or 0)
    )
    gone: set[int] = set()
    planned = []
    for number, (fault, at) in enumerate(single):
        victim = fault.target.worker if fault.target else None
        if fault.target and fault.target.random:
            left = [worker for worker in range(workers) if worker not in gone]
            if not left:
                continue  # nobody is left to strike
            victim = rng.choice(left)
        if victim is not None and (fault.kind in PERMANENT or (fault.kind == "hang" and fault.duration_s is None)):
            gone.add(victim)
        planned.append(_planned(number, fault, at, victim))
    return tuple(planned)


def _check(fault: Fault, key: str, workers: int, stages: int, steps: int | None, source: str) -> None:
    def refuse(part: str, problem: str) -> ConfigError:
        return ConfigError(problem, source=source, key=f"{key}.{part}")

    if fault.kind not in LIVE_KINDS:
        raise refuse("kind", f"{fault.kind} is for simulations; a live run knows {', '.join(sorted(LIVE_KINDS))}")
    target = fault.target
    if target and target.worker is not None and target.worker >= workers:
        raise refuse("target.worker", f"there is no worker {target.worker}; workers and spares are 0 to {workers - 1}")
    if target and target.stage is not None and target.stage >= stages:
        raise refuse("target.stage", f"there is no stage {target.stage}; stages are 0 to {stages - 1}")
    if target and (target.host is not None or target.rack is not None):
        raise refuse("target", "a live run strikes workers; host and rack are for simulations")
    if fault.at.step is not None and steps is not None and fault.at.step >= steps:
        raise refuse("at.step", f"the run has only steps 0 to {steps - 1}")


def _moments(fault: Fault, rng: random.Random) -> Sequence[tuple[Fault, At]]:
    """The single moments of an entry; `every` becomes `count` of them."""
    if fault.at.every is None:
        within = rng.random() if fault.at.step is not None and fault.at.within is None else fault.at.within
        return [(fault, msgspec.structs.replace(fault.at, within=within) if fault.at.step is not None else fault.at)]
    moments, now_s = [], 0.0
    for _ in range(fault.count):
        now_s += draw_gap_s(fault.at.every, rng)
        moments.append((fault, At(time_s=now_s)))
    return moments


def draw_gap_s(every: Every, rng: random.Random) -> float:
    """Seconds to the next failure; the mean is `mtbf_s` for every distribution."""
    match every.distribution:
        case "fixed":
            return every.mtbf_s
        case "exponential":
            return rng.expovariate(1 / every.mtbf_s)
        case "weibull":
            return rng.weibullvariate(every.mtbf_s / math.gamma(1 + 1 / every.shape), every.shape)


def _planned(number: int, fault: Fault, at: At, victim: int | None) -> PlannedFault:
    return PlannedFault(
        number=number,
        kind=fault.kind,
        step=at.step,
        within=at.within or 0.0,
        time_s=at.time_s,
        worker=victim,
        role=fault.target.role if fault.target else None,
        stage=fault.target.stage if fault.target else None,
        duration_s=fault.duration_s,
        factor=fault.factor,
        notice_s=fault.notice_s,
    )
