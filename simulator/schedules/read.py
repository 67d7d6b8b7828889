"""Reading traces and fault schedules from files. Knows paths; formats are told in `formats`."""

from __future__ import annotations

from pathlib import Path

from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule
from simulator.files import read_text
from simulator.schedules.changes import Changes, checked
from simulator.schedules.formats import FORMATS, guess
from simulator.schedules.write import as_changes


def read_trace(path: Path, kind: str = "auto", *, sort: bool = False) -> Changes:
    """A trace in any known format; with `sort`, in order of time whatever its rows' order.

    Raises ConfigError naming file and row.
    """
    text, source = read_text(path), str(path)
    kind = guess(text, source) if kind == "auto" else kind
    if kind not in FORMATS:
        raise ConfigError(f"there is no format {kind!r}; known: {', '.join(FORMATS)}", source="command line")
    if sort and kind == "counts":
        text = _sorted_rows(text)
    present, changes = FORMATS[kind](text, source)
    if sort:
        changes = sorted(changes, key=lambda change: change.time_s)
    return checked(present, changes, source)


def read_any(path: Path, kind: str = "auto", *, sort: bool = False) -> Changes:
    """A trace, or a fault schedule (YAML) as changes. Raises ConfigError."""
    if path.suffix not in (".yaml", ".yml"):
        return read_trace(path, kind, sort=sort)
    return as_changes(decode_yaml(read_text(path), FaultSchedule, source=str(path)), str(path))


def _sorted_rows(text: str) -> str:
    """Rows by their first cells: numbers by value, dates and times as text."""

    def key(line: str) -> tuple[float, str]:
        first = line.split(",", maxsplit=1)[0].strip()
        return (float(first), "") if first.isdigit() else (0.0, ",".join(line.split(",")[:2]))

    return "\n".join(sorted((line for line in text.splitlines() if line.strip()), key=key))
