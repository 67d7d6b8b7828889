"""What stands on the screen when a run is over: its figures, its failures, and where things lie."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from ft_horovod.status.failures_view import failures_section
from ft_horovod.status.plain import OUTCOMES
from ft_horovod.status.run_state import RunState
from ft_horovod.status.summary import Summary
from ft_horovod.status.text import (
    BAD,
    DIM,
    GOOD,
    STRONG,
    UNKNOWN,
    WARN,
    Fit,
    duration,
    folded,
    goodput_style,
    percent,
    plural,
)

_FAILURES = 20
_LABEL = 12


def final_view(state: RunState, summary: Summary, run_dir: Path | None = None) -> RenderableType:
    """The end of a run, drawn as wide as the console is. `run_dir` is named as the place where things lie."""
    return Fit(lambda width: _lines(state, summary, run_dir, min(width, 120)))


def _lines(state: RunState, summary: Summary, run_dir: Path | None, width: int) -> list[Text]:
    end_s = state.ledger.last_event_s or 0.0
    room = width - _LABEL - 1
    rows = [
        *_folded("reason", summary.message, room, WARN),
        ("accuracy", _accuracy(summary)),
        ("final loss", _or_unknown(None if summary.final_loss is None else f"{summary.final_loss:.4f}")),
        ("samples", _samples(summary)),
        ("goodput", _goodput(summary)),
        ("workers", Text(f"{summary.workers_started} started, {summary.workers_finished} finished")),
        ("failures", _failures(summary, len(state.pending))),
        ("weights", _weights(summary)),
        *_places(state, run_dir, room),
    ]
    lines = [Text(), _title(state, summary), Text()]
    lines.extend(Text.assemble((f" {name:{_LABEL}}", DIM), value) for name, value in rows)
    table = failures_section(state.failures, state.pending, end_s, width, max_rows=_FAILURES)
    lines.extend([Text(), *table] if table else [])
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return [*lines, Text()]


def _title(state: RunState, summary: Summary) -> Text:
    if summary.outcome == "finished":
        mark = Text(" ✔ finished", style=f"bold {GOOD}")
    elif summary.outcome is None:
        mark = Text(" ■ unfinished: the launcher left no last word", style=BAD)
    else:
        mark = Text(f" ■ {OUTCOMES[summary.outcome]}", style=BAD)
    planned = "" if summary.steps in (None, summary.steps_planned) else f" of {summary.steps_planned:,}"
    if summary.steps is not None and summary.wall_s is not None:
        mark.append(f"  {summary.steps:,}{planned} steps in {duration(summary.wall_s)}", style=STRONG)
    if state.run is not None:
        mark.append(f"  {state.run.run}", style=DIM)
    return mark


def _or_unknown(value: str | None) -> Text:
    return Text(UNKNOWN, DIM) if not value else Text(value)


def _accuracy(summary: Summary) -> Text:
    if summary.accuracy is None:
        return Text("not evaluated", DIM)
    return Text.assemble((f"{summary.accuracy * 100:.2f} %", STRONG), (f"  after {summary.accuracy_step:,} steps", DIM))


def _samples(summary: Summary) -> Text:
    words = {True: ("each exactly as planned", GOOD), False: ("NOT as planned", BAD), None: ("not checked", DIM)}
    return Text.assemble(f"{summary.samples:,}, ", words[summary.samples_exact])


def _weights(summary: Summary) -> Text:
    if summary.weights_sha256 is None:
        return Text(UNKNOWN, DIM)
    words = {
        True: ("  the same on every member", GOOD),
        False: ("  NOT the same on every member", BAD),
        None: ("", DIM),
    }
    return Text.assemble(f"sha256 {summary.weights_sha256[:12]}", words[summary.weights_agree])


def _goodput(summary: Summary) -> Text:
    if summary.goodput is None or summary.wall_s is None or summary.other_s is None:
        return Text(UNKNOWN, DIM)
    parts = (
        f"  {duration(summary.useful_s)} useful of {duration(summary.wall_s)}; "
        f"recovery {duration(summary.recovery_s)}, other {duration(summary.other_s)}"
    )
    return Text.assemble((percent(summary.goodput), f"bold {goodput_style(summary.goodput)}"), (parts, DIM))


def _failures(summary: Summary, pending: int) -> Text:
    if not summary.failures and not pending and not summary.workers_lost:
        return Text("none")
    spares = max(0, summary.workers_lost - len(summary.failures) - pending)
    line = Text(f"{len(summary.failures)} recovered")
    if summary.recovery_median_s is not None:
        worst_s = max(failure.total_s for failure in summary.failures)
        line.append(f", median {duration(summary.recovery_median_s)}, worst {duration(worst_s)}")
    if pending:
        line.append(f", {pending} not recovered", style=BAD)
    if spares:
        line.append(f"; {plural(spares, 'spare')} lost besides", style=DIM)
    return line


def _places(state: RunState, run_dir: Path | None, room: int) -> list[tuple[str, Text]]:
    places = []
    if run_dir is not None:
        places = [*_folded("run folder", str(run_dir), room), ("", Text("trace.jsonl, summary.json, logs/", DIM))]
    if state.commit is not None and state.commit.path is not None:
        places += _folded("last commit", f"step {state.commit.step:,}: {state.commit.path}", room)
    return places


def _folded(name: str, text: str, room: int, style: str = "") -> list[tuple[str, Text]]:
    """A row of as many lines as its text needs."""
    return [(name if i == 0 else "", Text(line, style)) for i, line in enumerate(folded(text, room))]
