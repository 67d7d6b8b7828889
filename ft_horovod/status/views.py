"""What an operator looks at: the live view of a run.

Pure functions from a state (and the time) to something rich can print. Knows neither files nor clocks.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from ft_horovod.core.trace import AnyEvent, FailureRecovered
from ft_horovod.status.crew_view import crew_section
from ft_horovod.status.failures_view import failures_section
from ft_horovod.status.plain import TIER_NAMES, plain_line, recovered_line
from ft_horovod.status.run_state import RunState
from ft_horovod.status.text import (
    BAD,
    CALM,
    DIM,
    GOOD,
    STRONG,
    UNKNOWN,
    WARN,
    amount,
    clock,
    duration,
    goodput_style,
    heading,
    parameters,
    percent,
    plural,
    sparkline,
    spread,
)

_QUIET_S = 2.0  # without a step for so long, and for five usual steps, the head says so
_EVENTS = 8


def live_view(state: RunState, now_s: float, width: int, height: int | None = None) -> RenderableType:
    """The run at `now_s` (seconds since the Unix epoch) in lines of `width` cells, at most `height` of them."""
    return Group(*live_lines(state, now_s, width, height))


def live_lines(state: RunState, now_s: float, width: int, height: int | None = None) -> list[Text]:
    """The lines of `live_view`. When they are too many, events give way first, then failures, then workers."""
    room = height or 1000
    head = [*_header(state, now_s, width), Text(), _bar_line(state, now_s, width), Text(), *_tiles(state, now_s, width)]
    crew = crew_section(state.crew, now_s, width, max_rows=max(2, min(16, room - len(head) - 8)))
    room -= len(head) + len(crew) + 1
    failures = failures_section(state.failures, state.pending, now_s, width, max_rows=max(1, min(8, room - 6)))
    room -= len(failures) + 1
    events = _events(state, width, _EVENTS if height is None else min(2 * _EVENTS, room - 2))
    lines = [*head, Text(), *crew]
    for section in (failures, events):
        lines.extend([Text(), *section] if section else [])
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines[:height]


def _header(state: RunState, now_s: float, width: int) -> list[Text]:
    run = state.run
    badge = _badge(state, now_s)
    if run is None:
        return [spread(Text(" ft-horovod  waiting for the launcher", style=STRONG), badge, width - 1)]
    end_s = now_s if state.outcome is None else state.outcome.time_s
    badge.append(f"   {clock(end_s - run.time_s)}", style=STRONG)
    title = Text.assemble((" ft-horovod ", "bold reverse"), "  ", (run.run, STRONG))
    spares = f" + {plural(run.spares, 'spare')}" if run.spares else ""
    workers = f"{plural(run.workers, 'worker')}{spares}"
    facts = f" {run.model} on {run.data} · batch {run.batch_size} · {run.launcher} · {workers}"
    size = f" · {parameters(state.training.parameters)}" if state.training else ""
    facts += size if len(facts) + len(size) < width else ""
    return [spread(title, badge, width - 1), Text(facts, style=DIM)]


def _badge(state: RunState, now_s: float) -> Text:
    """The state of the run in a word or two."""
    if state.outcome is not None:
        fine = state.outcome.outcome == "finished"
        return Text(f"{'✔' if fine else '■'} {state.outcome.outcome.replace('_', ' ')}", GOOD if fine else BAD)
    if state.finished is not None:
        return Text("✔ trained", GOOD)
    if state.stopped is not None:
        return Text("■ stopped", BAD)
    if state.training is None:
        return Text(f"◔ starting, {len(state.crew.workers)} up", CALM)
    if state.pending:
        since_s = now_s - state.pending[0].since_s
        return Text(f"▲ recovering, {duration(max(0.0, since_s))}", BAD)
    quiet_s = now_s - (state.progress.last_step_s or now_s)
    if quiet_s > max(_QUIET_S, 5 * (state.progress.mean_step_s or 0.0)):
        return Text(f"● training, no step for {duration(quiet_s)}", WARN)
    return Text("● training", GOOD)


def _bar_line(state: RunState, now_s: float, width: int) -> Text:
    """The steps as a bar, on which failures are marked where they struck."""
    progress = state.progress
    if progress.steps is None:
        return Text(" " + "━" * (width - 2), style=DIM)
    share = min(1.0, progress.step / progress.steps)
    words = f"{progress.step:,}/{progress.steps:,}  {progress.step * 100 // progress.steps} %"
    eta_s = progress.eta_s()
    if progress.step < progress.steps and eta_s is not None and state.outcome is None:
        words += f"  ETA {clock(eta_s - (now_s - (progress.last_step_s or now_s)))}"
    cells = max(4, width - len(words) - 4)
    bar = [("━", GOOD if i < round(share * cells) else DIM) for i in range(cells)]
    for failure in state.failures:
        bar[min(cells - 1, int(failure.step / progress.steps * cells))] = ("╋", "red")
    return Text.assemble(" ", *bar, "  ", (words, STRONG))


def _tiles(state: RunState, now_s: float, width: int) -> list[Text]:
    """The figures that matter, each under its name; the curve of the loss takes what room is left."""
    progress = state.progress
    speed, goodput = progress.samples_per_s, state.ledger.goodput_so_far()
    epochs = UNKNOWN if progress.data_epoch is None else f"{progress.data_epoch + 1} of {progress.data_epochs}"
    tiles = [
        ("throughput", Text(UNKNOWN if speed is None else f"{amount(speed)} samples/s", STRONG)),
        ("goodput", Text(UNKNOWN if goodput is None else percent(goodput), f"bold {goodput_style(goodput)}")),
        ("last commit", _commit(state, now_s)),
        ("epoch", Text(epochs, STRONG)),
        ("view", Text(UNKNOWN if state.crew.epoch is None else str(state.crew.epoch), STRONG)),
    ]
    loss = Text(UNKNOWN if progress.loss is None else f"{progress.loss:.4f}", STRONG)
    taken = sum(max(len(name), value.cell_len) + 3 for name, value in tiles)
    curve = sparkline(progress.losses.values, min(48, width - taken - loss.cell_len - 3))
    loss.append(f" {curve}" if len(curve) > 3 else "", style="cyan")
    names, values = Text(" "), Text(" ")
    for name, value in [("loss", loss), *tiles]:
        cells = max(len(name), value.cell_len) + 3
        names.append(f"{name:{cells}}", style=DIM)
        values.append_text(value)
        values.append(" " * (cells - value.cell_len))
    names.rstrip()
    values.rstrip()
    return [names, values]


def _commit(state: RunState, now_s: float) -> Text:
    if state.commit is None:
        return Text("none yet", DIM)
    age_s = max(0.0, now_s - state.commit.time_s)
    ago = f"{age_s:.0f} s" if age_s < 99.5 else clock(age_s)
    return Text.assemble((f"{state.commit.step:,}", STRONG), f" {TIER_NAMES[state.commit.tier]}, {ago} ago")


def _events(state: RunState, width: int, rows: int) -> list[Text]:
    """The newest noteworthy events, newest last."""
    told = [(event, line) for event in state.recent if (line := _event_line(event)) is not None]
    if rows < 1 or not told:
        return []
    start_s = state.run.time_s if state.run else told[0][0].time_s
    lines = [heading("events", Text(), width)]
    for event, line in told[-rows:]:
        lines.append(Text.assemble((f" {event.time_s - start_s:8.2f} s  ", DIM), (line, _event_style(event))))
    return lines


def _event_line(event: AnyEvent) -> str | None:
    return recovered_line(event) if isinstance(event, FailureRecovered) else plain_line(event)


def _event_style(event: AnyEvent) -> str:
    styles = {
        "FaultInjected": "red",
        "HangDetected": "red",
        "CommitFailed": "red",
        "WorkerLost": "red",
        "WorkerFailed": "red",
        "TrainingStopped": "red",
        "SlowDetected": WARN,
        "WorkerLeft": WARN,
        "FailureRecovered": GOOD,
        "Evaluated": "cyan",
    }
    return styles.get(type(event).__name__, "default")
