"""`ft-horovod commits RUN`: what commits a run has, as a table, as plain lines or as JSON.

Knows how rows are shown, not where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ft_horovod.commit.inventory import CommitRow, cut_in_words
from ft_horovod.status.text import BAD, GOOD, clock, one_line, size

HEADINGS = ("step", "tier", "stages x shards", "size", "age", "held by", "check")


def show(rows: Sequence[CommitRow], console: Console) -> None:
    """A table on a terminal, else a line for each row."""
    if not rows:
        console.print("no commits", markup=False, highlight=False)
    elif console.is_terminal and not console.is_dumb_terminal:
        console.print(_table(rows))
    else:
        for row in rows:
            console.print(_line(row), markup=False, highlight=False, soft_wrap=True)


def as_json(rows: Sequence[CommitRow]) -> str:
    """All rows as one JSON array."""
    return msgspec.json.encode(list(rows)).decode()


def _cells(row: CommitRow) -> tuple[str, ...]:
    cut, age = cut_in_words(row.shards), clock(row.age_s)
    check = one_line(row.problem) if row.problem else "whole"
    return f"{row.step:,}", row.tier, cut, size(row.size_bytes), age, row.holder, check


def _line(row: CommitRow) -> str:
    step, tier, cut, size_, age, holder, check = _cells(row)
    return f"step {step}, {tier}, {cut}, {size_}, {age} old, {holder}: {check}"


def _table(rows: Sequence[CommitRow]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        right = heading in ("step", "size", "age")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        *cells, check = _cells(row)
        table.add_row(*map(Text, cells), Text(check, BAD if row.problem else GOOD))
    return table
