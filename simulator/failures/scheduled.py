"""A fault schedule as strikes: the file that drives a live run drives a simulation, too.

A killed process is started again, unless the schedule says with `join` who comes when; who leaves or loses its host is
gone until somebody joins or `duration_s` is over. Faults by step strike at that step's nominal time. Knows schedules;
knows nothing of the job.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import Fault, FaultSchedule, draw_gap_s
from simulator.failures.causes import Cause, Effect
from simulator.failures.distributions import Duration
from simulator.failures.stream import Strike
from simulator.units import to_ns

_EFFECTS: dict[str, Effect] = {
    "kill": "kill", "hang": "hang", "slow": "slow", "leave": "preempt", "host_loss": "kill", "partition": "partition",
    "join": "kill",
}  # fmt: skip
_NEEDS_END = ("slow", "partition")
_FOREVER_S = 1e9


def scheduled_strikes(schedule: FaultSchedule, machines: int, *, step_s: float, source: str) -> list[Strike]:
    """All strikes in order of time; a strike without nodes is a join.

    Raises ConfigError naming the entry when a worker does not exist or a kind cannot be simulated.
    """
    rng = random.Random(schedule.seed)
    respawn = all(fault.kind != "join" for fault in schedule.faults)
    moments = []
    for number, fault in enumerate(schedule.faults):
        _check(fault, f"faults[{number}]", machines, source)
        moments += [(time_s, number, fault) for time_s in _times_s(fault, step_s, rng)]
    strikes, left = [], list(range(machines))
    for time_s, _, fault in sorted(moments, key=lambda moment: moment[:2]):
        victim: Sequence[int] = () if fault.kind == "join" else _victims(fault, left, machines, rng)
        cause = _cause(fault, respawn)
        strikes.append(Strike(to_ns(time_s), victim, cause, _away_ns(fault, cause, respawn)))
        if fault.kind in ("kill", "leave", "host_loss") and fault.duration_s is None and not respawn:
            left = [node for node in left if node not in victim] or list(range(machines))
    return strikes


def joins_of(strikes: Sequence[Strike]) -> int:
    """How many nodes the strikes bring."""
    return sum(not strike.nodes for strike in strikes)


def _times_s(fault: Fault, step_s: float, rng: random.Random) -> Iterator[float]:
    at = fault.at
    if at.time_s is not None:
        yield at.time_s
    elif at.step is not None:
        yield (at.step + (rng.random() if at.within is None else at.within)) * step_s
    elif at.every is not None:
        now_s = 0.0
        for _ in range(fault.count):
            now_s += draw_gap_s(at.every, rng)
            yield now_s


def _victims(fault: Fault, left: list[int], machines: int, rng: random.Random) -> Sequence[int]:
    target = fault.target
    if target is None or target.random:
        return (rng.choice(left),)
    if target.worker is not None:
        return (target.worker,)
    if target.role == "spare":
        return (machines - 1,)
    stage = target.stage or 0
    return (stage if target.role == "leader" else min(machines - 1, stage + 1),)


def _cause(fault: Fault, respawn: bool) -> Cause:
    """The cause that a fault stands for; its rate is never used."""
    effect = _EFFECTS[fault.kind]
    process = fault.kind in ("kill", "hang") and fault.duration_s is None
    lasts = Duration(mean_s=fault.duration_s or _FOREVER_S, family="fixed")
    return Cause(
        name=fault.kind,
        effect=effect,
        mtbf_h=1.0,
        repair=None if process and respawn else lasts,
        host_lost=fault.kind in ("host_loss", "leave", "partition"),
        factor=fault.factor,
        notice_s=fault.notice_s if fault.kind == "leave" else 0.0,
    )


def _away_ns(fault: Fault, cause: Cause, respawn: bool) -> int | None:
    if fault.duration_s is not None:
        return to_ns(fault.duration_s)
    if fault.kind == "slow":
        return to_ns(_FOREVER_S)
    return 0 if cause.repair is None and respawn else None


def _check(fault: Fault, key: str, machines: int, source: str) -> None:
    def refuse(part: str, problem: str) -> ConfigError:
        return ConfigError(problem, source=source, key=f"{key}.{part}")

    if fault.kind not in _EFFECTS:
        raise refuse("kind", f"{fault.kind} cannot be simulated; known: {', '.join(_EFFECTS)}")
    target = fault.target
    if target is not None and target.worker is not None and target.worker >= machines:
        raise refuse("target.worker", f"there is no worker {target.worker}; nodes and spares are 0 to {machines - 1}")
    if target is not None and (target.host is not None or target.rack is not None):
        raise refuse("target", "simulated nodes have numbers; name a worker, a role or random")
