"""The workers as a grid: a row for each stage, then spares, then those that are gone.

Knows how a worker looks. It does not know how a crew comes about; `crew` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ft_horovod.core.identity import Role
from ft_horovod.status.crew import GONE, Crew, Worker, WorkerState
from ft_horovod.status.text import BAD, CALM, DIM, GOOD, WARN, duration, heading

_LOOKS = {
    WorkerState.STARTED: ("·", DIM),
    WorkerState.TRAINING: ("●", GOOD),
    WorkerState.SPARE: ("○", CALM),
    WorkerState.HUNG: ("◌", BAD),
    WorkerState.LOST: ("✗", BAD),
    WorkerState.LEFT: ("→", WARN),
    WorkerState.FINISHED: ("✓", GOOD),
}
_LABEL = 10  # cells of a row's label
_NAME = 18  # cells of a worker's name at most
_MANY = 32  # with more workers the cells show numbers only


def crew_section(crew: Crew, now_s: float, width: int, max_rows: int = 16) -> list[Text]:
    """The grid, at most `max_rows` lines under its heading."""
    shorten = _shortener(crew)
    rows: list[Text] = []
    for label, workers in _groups(crew):
        cells = [_cell(worker, crew, now_s, shorten(worker)) for worker in workers]
        rows.extend(_wrap(label, cells, width))
    if len(rows) > max_rows:
        hidden = len(rows) - max_rows + 1
        rows = [*rows[: max_rows - 1], Text(f"{'':{_LABEL}}… {hidden} more rows", style=DIM)]
    return [heading("workers", _counts(crew, _host(crew)), width), *rows]


def _groups(crew: Crew) -> list[tuple[str, list[Worker]]]:
    """Labels and their workers, in the order of promotion within a stage."""
    here = {worker.name: worker for worker in crew.workers.values()}
    groups: list[tuple[str, list[Worker]]] = []
    shown: set[str] = set()
    for group in crew.layout.groups if crew.layout else ():
        names = [str(member) for member in group.members]
        shown.update(names)
        groups.append((f"stage {group.stage}", [here[name] for name in names if name in here]))
    rest = [worker for worker in crew.in_order() if worker.name not in shown]
    spares = [w for w in rest if w.role is Role.SPARE and w.state not in GONE]
    groups.append(("spares", spares))
    groups.append(("starting", [w for w in rest if w.role is not Role.SPARE and w.state not in GONE]))
    groups.append(("gone", [w for w in rest if w.state in GONE]))
    return [(label, workers) for label, workers in groups if workers]


def _cell(worker: Worker, crew: Crew, now_s: float, name: str) -> Text:
    glyph, style = _LOOKS[worker.state]
    if worker.role is Role.LEADER and worker.state in (WorkerState.TRAINING, WorkerState.FINISHED):
        glyph = "★"
    number = "?" if worker.number is None else str(worker.number)
    cell = Text.assemble((f"{glyph} {number}", style), (f" {name}" if name else "", "default"))
    pending = crew.pending.get(worker.name)
    if worker.state is WorkerState.HUNG and pending is not None:
        cell.append(f" silent {duration(now_s - pending.since_s)}", style=BAD)
    elif worker.state in GONE:
        where = "" if worker.fate_step is None else f"@{worker.fate_step}"
        cell.append(f" {worker.fate}{where}", style=WARN if worker.state is WorkerState.LEFT else "red")
    elif worker.slow_factor is not None:
        cell.append(f" {worker.slow_factor:.1f}× slow", style=WARN)
    return cell


def _wrap(label: str, cells: Sequence[Text], width: int) -> list[Text]:
    """Cells in columns of one width, in as many lines as they need; the label stands on the first."""
    longest = min(max(cell.cell_len for cell in cells), width - _LABEL)
    columns = max(1, (width - _LABEL + 2) // (longest + 2))
    lines = []
    for start in range(0, len(cells), columns):
        line = Text(f" {label if start == 0 else '':{_LABEL - 1}}", style=DIM)
        for index, cell in enumerate(cells[start : start + columns]):
            cell = cell.copy()
            cell.truncate(longest, overflow="ellipsis", pad=False)
            gap = 0 if index == 0 else 2
            line = Text.assemble(line, " " * gap, cell, " " * (longest - cell.cell_len))
        line.rstrip()
        lines.append(line)
    return lines


def _host(crew: Crew) -> str | None:
    """The host, if all are on one."""
    hosts = {worker.host for worker in crew.workers.values()}
    return hosts.pop() if len(hosts) == 1 else None


def _shortener(crew: Crew) -> _Shorten:
    return _Shorten(_host(crew), len(crew.workers) > _MANY)


class _Shorten:
    """A worker's name without what all names share: the one host, or the domain."""

    def __init__(self, only_host: str | None, numbers_only: bool) -> None:
        self._only_host, self._numbers_only = only_host, numbers_only

    def __call__(self, worker: Worker) -> str:
        if self._numbers_only:
            return ""
        host, _, slot = worker.name.rpartition(":")
        if host == self._only_host:
            return f":{slot}"
        name = f"{host.partition('.')[0]}:{slot}"
        return name if len(name) <= _NAME else "…" + name[1 - _NAME :]


def _counts(crew: Crew, host: str | None) -> Text:
    """How many workers are in each state, and each one's share of a step."""
    note = Text()
    for state, (_, style) in _LOOKS.items():
        count = crew.count(state)
        if count:
            note.append("  " if note else "")
            note.append(f"{count} {state.value}", style=style)
    shares = {worker.samples for worker in crew.workers.values() if worker.state is WorkerState.TRAINING}
    if shares and max(shares) > 0:
        low, high = min(shares), max(shares)
        note.append(f"  {low if low == high else f'{low} to {high}'} samples each", style=DIM)
    if host is not None:
        note.append(f"  on {host}", style=DIM)
    return note
