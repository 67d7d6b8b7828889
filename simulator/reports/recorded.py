"""Figures of a recorded live run, from its trace. Knows core's events and `live`'s reading of them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.trace import (
    AnyEvent,
    FailureRecovered,
    FaultInjected,
    RunFinished,
    StepFinished,
    TrainingStarted,
    ViewAgreed,
    WorkerFinished,
    WorkerLost,
    WorkerStarted,
)
from simulator.live import LiveRun
from simulator.reports.style import ACCOUNTS, FAINT, GRID, INK, PHASES, figure, legend_above, time_axis

_STARTING, _MEMBER, _SPARE = "#d7dbe0", "#2f9e6e", "#9fd3bd"


def workers_figure(events: Sequence[AnyEvent]) -> Figure:
    """Who lived when, as what, and what struck them."""
    workers = sorted({event.worker for event in events if isinstance(event, WorkerStarted)}, key=WorkerId.parse)
    row = {name: len(workers) - 1 - place for place, name in enumerate(workers)}
    fig, axes = figure(height=1.4 + 0.36 * max(2, len(workers)))
    begin_s, end_s = events[0].time_s, events[-1].time_s
    unit_s, _ = time_axis(axes, end_s - begin_s)
    for name in workers:
        for start_s, stop_s, colour in _lives(events, name, end_s):
            axes.barh(
                row[name], (stop_s - start_s) / unit_s, left=(start_s - begin_s) / unit_s, height=0.5, color=colour
            )
    for event in events:
        at = (event.time_s - begin_s) / unit_s
        if isinstance(event, FaultInjected) and event.worker in row:
            axes.plot(at, row[event.worker], marker="X", ms=10, color=ACCOUNTS["redone"][1], mec="white", zorder=4)
            axes.annotate(
                event.kind,
                (at, row[event.worker]),
                xytext=(7, 7),
                textcoords="offset points",
                fontsize=8,
                color=ACCOUNTS["redone"][1],
            )
        elif isinstance(event, FailureRecovered):
            axes.axvspan(at - event.total_s / unit_s, at, color=ACCOUNTS["recovery"][1], alpha=0.35, lw=0, zorder=0)
    axes.set_yticks(list(row.values()), list(row), color=INK)
    names = (("starting", _STARTING), ("member", _MEMBER), ("spare", _SPARE), ("recovery", ACCOUNTS["recovery"][1]))
    handles = [Line2D([], [], marker="s", ls="", color=colour, label=name) for name, colour in names]
    legend_above(axes, 4, handles)
    return fig


def _lives(events: Sequence[AnyEvent], name: str, end_s: float) -> list[tuple[float, float, str]]:
    """The stretches of a worker's life, with the colour of what it was."""
    stretches: list[tuple[float, float, str]] = []
    since, colour = 0.0, ""
    for event in events:
        was, over = colour, False
        match event:
            case WorkerStarted(worker=worker) if worker == name:
                colour = _STARTING
            case ViewAgreed(layout=layout) if colour:
                members, spares = map(str, layout.members), map(str, layout.spares)
                colour = _MEMBER if name in members else _SPARE if name in spares else colour
            case WorkerLost(worker=worker) | WorkerFinished(worker=worker) if worker == name:
                over = True
            case RunFinished():
                over = True
            case _:
                continue
        if was and (over or colour != was):
            stretches.append((since, event.time_s, was))
        if over:
            colour = ""
        if colour != was:
            since = event.time_s
    return [*stretches, (since, end_s, colour)] if colour else stretches


def time_figure(run: LiveRun) -> Figure:
    """Where the time of the run went."""
    fig, axes = figure(height=1.7)
    parts = {"useful": run.useful_s, "recovery": run.recovery_s}
    parts["other"] = max(0.0, run.wall_s - sum(parts.values()))
    left = 0.0
    for name, seconds in parts.items():
        share = seconds / run.wall_s
        axes.barh(0, seconds, left=left, color=ACCOUNTS[name][1], height=0.6, label=f"{ACCOUNTS[name][0]} {share:.1%}")
        left += seconds
    axes.set_yticks([])
    axes.set_xlim(0, run.wall_s)
    axes.set_xlabel("seconds")
    legend_above(axes, 3)
    return fig


def phases_figure(run: LiveRun) -> Figure:
    """The phases of each recovery, in milliseconds."""
    fig, axes = figure(height=1.6 + 0.4 * max(1, len(run.failures)))
    for row, failure in enumerate(reversed(run.failures)):
        left = 0.0
        for name, (label, colour) in PHASES.items():
            width = failure.phases_s[name] * 1e3
            axes.barh(row, width, left=left, height=0.6, color=colour, label=label if row == 0 else None)
            left += width
        axes.text(
            left,
            row,
            f"  {failure.total_s * 1e3:,.0f} ms; the step took {failure.cost_s * 1e3:,.0f} ms longer",
            va="center",
            fontsize=9,
            color=FAINT,
        )
    names = [f"step {failure.step}: {failure.kind} {failure.worker}" for failure in reversed(run.failures)]
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.margins(x=0.35)
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds")
    axes.grid(axis="x", color=GRID)
    if names:
        legend_above(axes, 6)
    else:
        axes.text(0.5, 0.5, "nothing failed", transform=axes.transAxes, ha="center", color=FAINT)
    return fig


def steps_figure(events: Sequence[AnyEvent]) -> Figure:
    """How long each step took, and what of it a failure cost."""
    fig, axes = figure(height=3.0)
    steps = [event for event in events if isinstance(event, StepFinished)]
    numbers = [event.step for event in steps]
    axes.bar(numbers, [event.step_s - event.recovery_s for event in steps], color=ACCOUNTS["useful"][1], width=0.8)
    axes.bar(
        numbers,
        [event.recovery_s for event in steps],
        bottom=[event.step_s - event.recovery_s for event in steps],
        color=ACCOUNTS["recovery"][1],
        width=0.8,
    )
    axes.set_xlabel("step")
    axes.set_ylabel("seconds")
    axes.grid(axis="y", color=GRID)
    axes.margins(x=0.01)
    return fig


def facts(events: Sequence[AnyEvent], run: LiveRun) -> list[tuple[str, str]]:
    """The figures at the head of the page."""
    begun = next((event for event in events if isinstance(event, TrainingStarted)), None)
    return [
        ("goodput", f"{run.useful_s / run.wall_s:.1%}"),
        ("failures survived", str(len(run.failures))),
        ("lost to failures", f"{run.recovery_s:.2f} s"),
        ("wall time", f"{run.wall_s:.1f} s"),
        ("steps", f"{run.steps:,}"),
        ("parameters", _count(begun.parameters) if begun else "-"),
    ]


def _count(number: int) -> str:
    """A count in thousands or millions."""
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"
