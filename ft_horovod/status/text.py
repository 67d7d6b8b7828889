"""Numbers as words and small drawings, for views of one colour scheme.

Knows widths and colours, nothing of runs.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

GOOD, WARN, BAD, CALM, DIM, STRONG = "green", "yellow", "bold red", "blue", "bright_black", "bold"

UNKNOWN = "-"

_TICKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = "▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Fit:
    """Lines drawn for whatever width the console has."""

    draw: Callable[[int], list[Text]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.draw(options.max_width)


def clock(seconds: float) -> str:
    """As 0:41, 12:05 or 1:02:03."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def duration(seconds: float) -> str:
    """As 8.2 ms, 650 ms, 1.30 s, 41.2 s or 12:05."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.09995 else f"{seconds * 1e3:.0f} ms"
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    return f"{seconds:.1f} s" if seconds < 99.95 else clock(seconds)


def milliseconds(seconds: float) -> str:
    """As 0.3, 64.6, 650 or 1,304, without the unit."""
    value = seconds * 1e3
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def amount(value: float) -> str:
    """As 3.4, 412 or 12,480."""
    return f"{value:.1f}" if value < 99.95 else f"{value:,.0f}"


def percent(share: float) -> str:
    """As 98.7 %; 100 % only when it is."""
    return "100 %" if share >= 1 else f"{min(share * 100, 99.9):.1f} %"


def size(count: int) -> str:
    """As 980 B, 12.1 MB or 1.4 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def parameters(count: int) -> str:
    """How large a model is: `28 k parameters`, `23.5 M parameters`."""
    return f"{count / 1e6:.1f} M parameters" if count >= 1_000_000 else f"{count / 1e3:.0f} k parameters"


def short_name(worker: str, most: int = 1000) -> str:
    """A worker's name without its host's domain, in at most so many cells; addresses stay whole."""
    host, colon, slot = worker.rpartition(":")
    first, _, domain = host.partition(".")
    name = worker if not domain or first.isdigit() else f"{first}{colon}{slot}"
    return name if len(name) <= most else "…" + name[len(name) - most + 1 :]


def one_line(message: str) -> str:
    """A message of several lines as one."""
    return " | ".join(line.strip() for line in message.splitlines() if line.strip())


def folded(text: str, width: int) -> list[str]:
    """All of a text in lines of at most `width` cells: for what is to be copied, and must not be cut."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, max(8, width)) or [""]]


def plural(count: int, noun: str) -> str:
    """As 1 spare, 2 spares."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def goodput_style(share: float | None) -> str:
    """Green from 95 %, yellow from 80 %."""
    if share is None:
        return DIM
    return GOOD if share >= 0.95 else WARN if share >= 0.8 else BAD


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` ticks, scaled from the least to the greatest of them."""
    if not values or width < 1:
        return ""
    if len(values) > width:
        edges = [round(i * len(values) / width) for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(values), max(values)
    scale = (len(_TICKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_TICKS[round((value - low) * scale)] for value in values)


def stacked_bar(parts: Sequence[tuple[float, str]], width: int) -> Text:
    """Parts of a whole side by side over `width` cells, each an amount and a colour, to an eighth of a cell."""
    total = sum(amount for amount, _ in parts)
    if total <= 0 or width < 1:
        return Text(" " * max(width, 0))
    eighths: list[str] = []
    reached = 0.0
    for share, colour in parts:
        reached += share
        eighths.extend([colour] * (round(reached / total * width * 8) - len(eighths)))
    bar = Text()
    for start in range(0, width * 8, 8):
        cell = eighths[start : start + 8]
        first = cell[0]
        same = next((i for i, colour in enumerate(cell) if colour != first), 8)
        rest = cell[same:]
        other = max(rest, key=rest.count) if rest else None
        bar.append(_EIGHTHS[same - 1], style=f"{first} on {other}" if other else first)
    return bar


def spread(left: Text, right: Text, width: int) -> Text:
    """One line with something at either end; the left gives way."""
    room = width - right.cell_len - (1 if right.cell_len else 0)
    left = left.copy()
    left.truncate(max(0, room), overflow="ellipsis")
    return Text.assemble(left, " " * (width - left.cell_len - right.cell_len), right)


def heading(title: str, note: Text, width: int) -> Text:
    """A section's title on a thin rule, with a few words about it."""
    line = Text.assemble((f" {title} ", STRONG), note, " " if note else "")
    line.truncate(width, overflow="ellipsis")
    line.append("─" * max(0, width - line.cell_len - 1), style=DIM)
    return line
