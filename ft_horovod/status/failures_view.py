"""Failures as a table: the phases of each recovery in milliseconds, and as a bar.

The headings wear the colours of the bar, and so are its legend. Knows failures only.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ft_horovod.core.trace import FailureRecovered
from ft_horovod.status.crew import Pending
from ft_horovod.status.ledger import median_s, phase_s
from ft_horovod.status.text import BAD, DIM, STRONG, duration, heading, milliseconds, short_name, stacked_bar

COLOURS = ("magenta", "yellow", "white", "cyan", "blue", "green")
_TITLES = ("detect", "shrink", "replan", "restore", "re-init", "redo")
_BAR_LEAST, _BAR_MOST = 5, 40
_NAME_MOST = 18


def failures_section(
    failures: Sequence[FailureRecovered],
    pending: Sequence[Pending],
    now_s: float,
    width: int,
    max_rows: int = 8,
) -> list[Text]:
    """The newest failures, at most `max_rows` of them; those that are not over stand last."""
    rows: list[FailureRecovered | Pending] = [*failures, *pending]
    shown = rows[-max_rows:]
    if not rows:
        return []
    fixed = len(_lead("", "", "", 0)) + sum(max(6, len(title)) + 1 for title in _TITLES) + 7 + 3
    longest = max(len(short_name(row.worker)) for row in shown)
    name_width = max(6, min(longest, _NAME_MOST, width - fixed - _BAR_LEAST))
    bar_width = min(_BAR_MOST, width - fixed - name_width)
    lines = [heading("failures", _note(failures, pending, len(rows) - len(shown)), width), _titles(name_width)]
    for row in shown:
        if isinstance(row, FailureRecovered):
            lines.append(_recovered(row, name_width, bar_width))
        else:
            lines.append(_pending(row, now_s, name_width))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _lead(step: str, worker: str, kind: str, name_width: int) -> str:
    return f" {step:>5} {worker:<{name_width}} {kind:<4}"


def _titles(name_width: int) -> Text:
    line = Text(_lead("step", "worker", "kind", name_width), style=DIM)
    for title, colour in zip(_TITLES, COLOURS, strict=True):
        line.append(f" {title:>6}", style=colour)
    line.append(f" {'total':>6}  in ms", style=DIM)
    return line


def _recovered(failure: FailureRecovered, name_width: int, bar_width: int) -> Text:
    line = Text(_lead(str(failure.step), short_name(failure.worker, name_width), failure.kind, name_width))
    phases = phase_s(failure)
    for title, seconds in zip(_TITLES, phases, strict=True):
        line.append(f" {milliseconds(seconds):>{max(6, len(title))}}", style=DIM if seconds < 5e-5 else "")
    line.append(f" {milliseconds(failure.total_s):>6}", style=STRONG)
    line.append("  ")
    line.append_text(stacked_bar(list(zip(phases, COLOURS, strict=True)), max(0, bar_width)))
    return line


def _pending(pending: Pending, now_s: float, name_width: int) -> Text:
    step = "" if pending.step is None else str(pending.step)
    line = Text(_lead(step, short_name(pending.worker, name_width), pending.kind, name_width))
    line.append(f" not over, {duration(max(0.0, now_s - pending.since_s))} so far", style=BAD)
    if pending.silent_s is not None:
        line.append(f"; killed after {duration(pending.silent_s)} of silence", style=DIM)
    return line


def _note(failures: Sequence[FailureRecovered], pending: Sequence[Pending], hidden: int) -> Text:
    note = Text(f"{len(failures)} recovered")
    typical_s = median_s(failures)
    if typical_s is not None:
        note.append(f", median {duration(typical_s)}")
    if pending:
        note.append(f", {len(pending)} not over", style=BAD)
    if hidden:
        note.append(f"  ({hidden} older not shown)", style=DIM)
    return note
