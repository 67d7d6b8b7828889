"""The formats of published traces, each turned into changes. Knows what a row means; order is checked elsewhere.

add-remove   milliseconds,add or remove,node                    Bamboo (NSDI 2023), Oobleck (SOSP 2023)
parcae       [milliseconds, add|remove|no-op, {nodes: [...]}]    Parcae (NSDI 2024), one JSON list a line
infinitehbd  JSON list of {node_id, event_time, event_type}      InfiniteHBD; times in days
counts       milliseconds,count  or  date, time, count          Parcae's p3, Bamboo's gcloud: nodes by number only
intervals    node,start_s,end_s                                  plain: a node is away from start to end
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from datetime import datetime

import msgspec

from ft_horovod.core.errors import ConfigError
from simulator.schedules.changes import Change
from simulator.units import S_PER_DAY

Rows = tuple[tuple[str, ...], list[Change]]  # who is there from the start besides those that come, and the changes


class _Nodes(msgspec.Struct):
    nodes: list[str] = []


class _Fault(msgspec.Struct):
    node_id: str
    event_time: float
    event_type: str


def add_remove(text: str, source: str) -> Rows:
    """Bamboo's and Oobleck's rows."""
    changes = []
    for line, row in _rows(text):
        time_s = _number(row[0], source, line) / 1000
        if len(row) != 3 or row[1] not in ("add", "remove") or not row[2]:
            raise ConfigError("expected milliseconds,add or remove,node", source=source, line=line)
        changes.append(Change(time_s, row[2], row[1] == "add", line))
    return (), changes


def parcae(text: str, source: str) -> Rows:
    """Parcae's lines; what it says of strategies is not read."""
    changes = []
    for line, content in _lines(text):
        try:
            time_ms, what, rest = msgspec.json.decode(content, type=tuple[float, str, _Nodes])
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"expected [milliseconds, operation, {{nodes}}]: {error}", source=source, line=line
            ) from error
        if what not in ("add", "remove", "no-op"):
            raise ConfigError(f"operation is {what!r}, not add, remove or no-op", source=source, line=line)
        changes += [Change(time_ms / 1000, node, what == "add", line) for node in rest.nodes if what != "no-op"]
    return (), changes


def infinitehbd(text: str, source: str) -> Rows:
    """InfiniteHBD's faults. A node with two faults at once is back when both are over. Rows are counted from 1."""
    try:
        faults = msgspec.json.decode(text, type=list[_Fault])
    except msgspec.DecodeError as error:
        raise ConfigError(f"expected a list of node_id, event_time, event_type: {error}", source=source) from error
    broken: dict[str, int] = {}
    changes = []
    for row, fault in enumerate(faults, 1):
        count = broken.get(fault.node_id, 0)
        if fault.event_type not in ("fault_start", "fault_end"):
            raise ConfigError(f"event_type is {fault.event_type!r}", source=source, line=row)
        if fault.event_type == "fault_end" and count == 0:
            raise ConfigError(f"{fault.node_id} is repaired before its failure", source=source, line=row)
        broken[fault.node_id] = count + (1 if fault.event_type == "fault_start" else -1)
        if count == 0 or broken[fault.node_id] == 0:
            changes.append(Change(fault.event_time * S_PER_DAY, fault.node_id, count != 0, row))
    return tuple(sorted(broken)), changes


def counts(text: str, source: str) -> Rows:
    """Numbers of nodes over time. Nodes get names; who came last goes first."""
    here: list[str] = []
    changes, named, start = [], 0, None
    for line, row in _rows(text):
        if len(row) == 3:
            moment = _moment(row, source, line)
            start = start or moment
            time_s = (moment - start).total_seconds()
        elif len(row) == 2:
            time_s = _number(row[0], source, line) / 1000
        else:
            raise ConfigError("expected milliseconds,count or date,time,count", source=source, line=line)
        wanted = _count(row[-1], source, line)
        while len(here) < wanted:
            named += 1
            here.append(f"node{named}")
            changes.append(Change(time_s, here[-1], True, line))
        while len(here) > wanted:
            changes.append(Change(time_s, here.pop(), False, line))
    return (), changes


def intervals(text: str, source: str) -> Rows:
    """Plain rows of node, start and end in seconds, sorted by start; a first row that is no numbers is a heading."""
    away_until: dict[str, float] = {}
    changes: list[Change] = []
    last_s = 0.0
    for line, row in _rows(text):
        if len(row) != 3 or not row[0]:
            raise ConfigError("expected node,start_s,end_s", source=source, line=line)
        if line == 1 and not _is_number(row[1]):
            continue
        start_s, end_s = _number(row[1], source, line), _number(row[2], source, line)
        if end_s <= start_s:
            raise ConfigError(
                f"{row[0]} is repaired at {end_s:g} s, before its failure at {start_s:g} s", source=source, line=line
            )
        if start_s < last_s:
            raise ConfigError(
                f"start {start_s:g} s comes before that of the row above, {last_s:g} s", source=source, line=line
            )
        if start_s < away_until.get(row[0], 0.0):
            raise ConfigError(
                f"{row[0]} fails at {start_s:g} s, and is away until {away_until[row[0]]:g} s: rows overlap",
                source=source,
                line=line,
            )
        last_s = start_s
        away_until[row[0]] = end_s
        changes += [Change(start_s, row[0], False, line), Change(end_s, row[0], True, line)]
    return tuple(sorted(away_until)), sorted(changes, key=lambda change: (change.time_s, not change.up))


FORMATS: dict[str, Callable[[str, str], Rows]] = {
    "add-remove": add_remove,
    "parcae": parcae,
    "infinitehbd": infinitehbd,
    "counts": counts,
    "intervals": intervals,
}


def guess(text: str, source: str) -> str:
    """The format that the first row looks like. Raises ConfigError."""
    line, first = next(_lines(text), (0, ""))
    if not first:
        raise ConfigError("is empty: there is no row in it", source=source)
    row = [cell.strip() for cell in first.split(",")]
    if text.lstrip().startswith("["):
        return "parcae" if first.lstrip()[1:2].isdigit() else "infinitehbd"
    if len(row) == 3 and row[1] in ("add", "remove"):
        return "add-remove"
    if len(row) == 2 or (len(row) == 3 and ":" in row[1]):
        return "counts"
    if len(row) == 3:
        return "intervals"
    raise ConfigError(f"no known format; known: {', '.join(FORMATS)}", source=source, line=line)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip())


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(text):
        yield number, [cell.strip() for cell in next(csv.reader([line]))]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, source: str, line: int) -> float:
    if not _is_number(cell) or not abs(float(cell)) < float("inf"):
        raise ConfigError(f"{cell!r} is not a time", source=source, line=line)
    if float(cell) < 0:
        raise ConfigError(f"negative time: {cell}", source=source, line=line)
    return float(cell)


def _count(cell: str, source: str, line: int) -> int:
    if not cell.isdigit():
        raise ConfigError(f"{cell!r} is not a number of nodes", source=source, line=line)
    return int(cell)


def _moment(row: list[str], source: str, line: int) -> datetime:
    try:
        return datetime.fromisoformat(f"{row[0]}T{row[1]}")
    except ValueError as error:
        raise ConfigError(f"{row[0]} {row[1]} is not a date and a time", source=source, line=line) from error
