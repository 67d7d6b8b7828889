"""The workers as a grid: a row for each stage, then spares, then those that are gone.

Knows how a worker looks. It does not know how a crew comes about; `crew` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ft_horovod.core.identity import Role
from ft_horovod.status.crew import GONE, Crew, Worker, WorkerState
from ft_horovod.status.text import BAD, CALM, DIM, GOOD, WARN, duration, heading, short_name

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
    groups = [
        (label, [_cell(worker, shorten(worker)) for worker in workers], workers) for label, workers in _groups(crew)
    ]
    cell_width = max((cell.cell_len for _, cells, _ in groups for cell in cells), default=1)
    rows: list[Text] = []
    for label, cells, workers in groups:
        for cell, worker in zip(cells, workers, strict=True):
            cell.append_text(_remark(worker, crew, now_s))
        rows.extend(_wrap(label, cells, min(cell_width, width - _LABEL), width))
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


def _cell(worker: Worker, name: str) -> Text:
    """A worker without any remark."""
    glyph, style = _LOOKS[worker.state]
    if worker.role is Role.LEADER and worker.state in (WorkerState.TRAINING, WorkerState.FINISHED):
        glyph = "★"
    words = [str(part) for part in (worker.number, name) if part not in (None, "")]
    return Text.assemble((f"{glyph} {words[0]}", style), *(f" {word}" for word in words[1:]))


def _remark(worker: Worker, crew: Crew, now_s: float) -> Text:
    """What is out of the ordinary."""
    pending = crew.pending.get(worker.name)
    if worker.state is WorkerState.HUNG and pending is not None:
        return Text(f" silent {duration(max(0.0, now_s - pending.since_s))}", BAD)
    if worker.state in GONE:
        where = "" if worker.fate_step is None else f"@{worker.fate_step}"
        return Text(f" {worker.fate}{where}", WARN if worker.state is WorkerState.LEFT else "red")
    if worker.slow_factor is not None:
        return Text(f" {worker.slow_factor:.1f}x slow", WARN)
    return Text()


def _wrap(label: str, cells: Sequence[Text], cell_width: int, width: int) -> list[Text]:
    """Cells in columns of one width, in as many lines as they need; a long one takes several columns."""
    stride = cell_width + 2
    columns = max(1, (width - _LABEL + 2) // stride)
    lines = [Text.assemble((f" {label:{_LABEL - 1}}", DIM))]
    used = 0
    for cell in cells:
        cell.truncate(width - _LABEL, overflow="ellipsis")
        needed = -(-(cell.cell_len + 2) // stride)
        if used and used + needed > columns:
            lines.append(Text(" " * _LABEL))
            used = 0
        lines[-1].append_text(cell)
        lines[-1].append(" " * (needed * stride - cell.cell_len))
        used += needed
    for line in lines:
        line.rstrip()
    return lines


def _host(crew: Crew) -> str | None:
    """The host, if all are on one."""
    hosts = {worker.host for worker in crew.workers.values()}
    return hosts.pop() if len(hosts) == 1 else None


def _shortener(crew: Crew) -> _Shorten:
    return _Shorten(_host(crew), len(crew.workers) > _MANY)


class _Shorten:
    """A worker's name without what all names share, the one host or the domain, and without what its number says."""

    def __init__(self, only_host: str | None, numbers_only: bool) -> None:
        self._only_host, self._numbers_only = only_host, numbers_only

    def __call__(self, worker: Worker) -> str:
        host, _, slot = worker.name.rpartition(":")
        if worker.number is not None and (self._numbers_only or (host, slot) == (self._only_host, str(worker.number))):
            return ""
        if host == self._only_host:
            return f":{slot}"
        return short_name(worker.name, _NAME)


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
