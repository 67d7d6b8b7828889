"""Changes as fault schedules, and back.

A node that goes is a `leave` without notice, one that comes a `join`. A join names nobody: whoever is away longest
comes back in a simulation, so nodes' numbers are dealt here by the same rule. Knows both vocabularies.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.schedule import At, Fault, FaultSchedule, Target
from simulator.failures.scheduled import scheduled_strikes
from simulator.files import write_text
from simulator.schedules.changes import Change, Changes
from simulator.units import to_s


def as_schedule(changes: Changes, time_factor: float = 1.0) -> tuple[FaultSchedule, int]:
    """The schedule, and the number of nodes it is for: the most that are there at once.

    Those of them that are not there at first leave at time 0. Times are multiplied by `time_factor`.
    """
    nodes = _most(changes)
    number = {node: place for place, node in enumerate(changes.present)}
    away = dict.fromkeys(range(len(changes.present), nodes))
    faults = [_leave(place, 0.0) for place in away]
    for change in changes.changes:
        time_s = round(change.time_s * time_factor, 6)
        if change.up:
            place = next(iter(away))
            del away[place]
            number[change.node] = place
            faults.append(Fault(kind="join", at=At(time_s=time_s)))
        else:
            place = number.pop(change.node)
            away[place] = None
            faults.append(_leave(place, time_s))
    return FaultSchedule(version=1, faults=tuple(faults)), nodes


def _leave(place: int, time_s: float) -> Fault:
    return Fault(kind="leave", at=At(time_s=time_s), target=Target(worker=place), notice_s=0.0)


def _most(changes: Changes) -> int:
    most = here = len(changes.present)
    for change in changes.changes:
        here += 1 if change.up else -1
        most = max(most, here)
    return max(1, most)


def as_changes(schedule: FaultSchedule, source: str) -> Changes:
    """What a schedule does to the nodes it names, for a picture; who is away for `duration_s` comes back after it."""
    named = [fault.target.worker for fault in schedule.faults if fault.target and fault.target.worker is not None]
    nodes = max(named, default=3) + 1
    changes, away = [], dict[int, None]()
    for line, strike in enumerate(scheduled_strikes(schedule, nodes, step_s=1.0, source=source), 1):
        time_s = to_s(strike.time_ns)
        if not strike.nodes and away:
            place = next(iter(away))
            del away[place]
            changes.append(Change(time_s, str(place), True, line))
        for node in strike.nodes:
            if node in away:
                continue
            changes.append(Change(time_s, str(node), False, line))
            if strike.repair_ns is None:
                away[node] = None
            else:
                changes.append(Change(time_s + max(to_s(strike.repair_ns), 1e-6), str(node), True, line))
    return Changes(tuple(map(str, range(nodes))), tuple(sorted(changes, key=lambda change: change.time_s)))


def write_schedule(path: Path, schedule: FaultSchedule, note: str) -> None:
    """Write a schedule that says where it comes from; keys that mean nothing for a fault are left out.

    Raises ConfigError when the file cannot be written.
    """
    faults = [_plain(fault) for fault in schedule.faults]
    text = encode_yaml({"version": 1, "seed": schedule.seed, "faults": faults})
    write_text(path, f"# {note}\n{text}")


def _plain(fault: Fault) -> dict[str, object]:
    defaults = {"duration_s": None, "factor": 2.0, "notice_s": 30.0, "count": 1, "target": None}
    values: dict[str, object] = msgspec.to_builtins(fault)
    kept = {key: value for key, value in values.items() if key not in defaults or value != defaults[key]}
    for key in ("at", "target"):
        inner = kept.get(key)
        if isinstance(inner, dict):
            kept[key] = {name: value for name, value in inner.items() if value is not None and value is not False}
    return kept
