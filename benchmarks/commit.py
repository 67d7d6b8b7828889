"""Benchmark: what keeping the state costs. ResNet-50 with momentum, 205 MB, every way of keeping it in turn.

    .venv/bin/python benchmarks/commit.py --rounds 5

Each arm of `commit_once.ARMS` runs in a process of its own, in turn, several rounds: how long a commit makes training
stand still (stall), how long until it can be relied on (complete), by how much the steps meanwhile are slower (drag),
bytes kept, memory beyond training's own, and seconds to restore, from a file that is not in the page cache.
Writes JSON and a figure.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
from commit_once import ARMS, Once
from common import RESULTS, BenchError, Spread, console, in_ms, machine_facts, spread, write_result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from ours import scratch_folder, trainer_environment
from processes import log_tail, run_limited, take_charge
from rich.table import Table

from simulator.reports.style import GRID, INK, LINES, legend_above, panels, plain, save

_PROGRAM = Path(__file__).with_name("commit_once.py")
_YARDSTICK = "torch.save"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: spreads over all commits of all rounds but each process's first, in seconds and bytes."""

    stall_s: Spread | None
    first_stall_s: Spread | None
    complete_s: Spread | None
    drag_s: Spread | None
    restore_s: Spread | None
    step_s: Spread | None
    size_bytes: Spread | None
    extra_bytes: Spread | None


def main() -> None:
    """Measure, print, write, draw."""
    options = _parse()
    take_charge()
    facts, out = machine_facts(), console()
    rounds: dict[str, list[Once]] = {name: [] for name in options.arms}
    for number in range(options.rounds):
        for name, taken in rounds.items():
            taken.append(_run(name, options.saves, options.limit))
        out.print(f"round {number + 1}: {_tell(rounds)}")
        figures = {name: _figures(taken) for name, taken in rounds.items()}
        write_result(options.out, facts, vars(options), arms=figures, rounds=rounds)
    save(_draw(figures), options.out.with_suffix(".png"))
    out.print(_table(figures))


def _run(name: str, saves: int, limit_s: float) -> Once:
    with scratch_folder() as folder:
        kept = folder / "kept"
        kept.mkdir()
        command = [sys.executable, str(_PROGRAM), name, str(kept), str(folder / "once.json"), "--saves", str(saves)]
        code = run_limited(command, folder / "output.log", limit_s, env=trainer_environment())
        if code != 0:
            problem = f"no end after {limit_s:g} s" if code is None else f"exit {code}"
            raise BenchError(f"{name}: {problem}\n{log_tail(folder / 'output.log')}")
        return msgspec.json.decode((folder / "once.json").read_bytes(), type=Once)


def _figures(taken: list[Once]) -> Figures:
    saves = [one for once in taken for one in once.saves]
    return Figures(
        stall_s=spread([one.stall_s for one in saves]),
        first_stall_s=spread([once.first.stall_s for once in taken]),
        complete_s=spread([one.complete_s for one in saves]),
        drag_s=spread([drag for once in taken for drag in once.drag_s]),
        restore_s=spread([once.restore_s for once in taken]),
        step_s=spread([once.step_s for once in taken]),
        size_bytes=spread([one.size_bytes for one in saves]),
        extra_bytes=spread([once.extra_bytes for once in taken]),
    )


def _tell(rounds: dict[str, list[Once]]) -> str:
    return ", ".join(f"{name} {in_ms(_figures(taken[-1:]).stall_s)} ms" for name, taken in rounds.items())


def _table(figures: dict[str, Figures]) -> Table:
    table = Table(title="A commit of ResNet-50 with momentum: median (least to most), times in ms")
    for heading in ("", "stall", "torch.save / it", "complete", "drag", "restore", "MB kept", "MB of memory"):
        table.add_column(heading, justify="right" if heading else "left")
    yardstick = figures.get(_YARDSTICK)
    for name, one in figures.items():
        table.add_row(
            name,
            in_ms(one.stall_s),
            _ratio(yardstick.stall_s if yardstick else None, one.stall_s),
            in_ms(one.complete_s),
            in_ms(one.drag_s),
            in_ms(one.restore_s),
            _in_mb(one.size_bytes),
            _in_mb(one.extra_bytes),
        )
    return table


def _ratio(above: Spread | None, below: Spread | None) -> str:
    return f"{above.median / below.median:,.1f}" if above and below and below.median else "-"


def _in_mb(figure: Spread | None) -> str:
    return "-" if figure is None else f"{figure.median / 1e6:,.0f}"


def _draw(figures: dict[str, Figures]) -> Figure:
    """Stall, completion and restore of each arm: a dot for the median, a line from the least to the most."""
    fig, (left, right) = panels(2, 12.0, 1.6 + 0.5 * len(figures))
    rows = list(reversed(figures))
    for row, name in enumerate(rows):
        one = figures[name]
        _mark(left, row + 0.14, LINES[1], one.stall_s, "training stands still" if row == 0 else None)
        _mark(left, row - 0.14, LINES[2], one.complete_s, "can be relied on" if row == 0 else None)
        _mark(right, row, LINES[0], one.restore_s, None)
    left.set_xlabel("ms from the begin of a commit")
    right.set_xlabel("ms to restore")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: plain(value))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12)
        axes.set_yticks(range(len(rows)), rows if axes is left else [""] * len(rows), color=INK)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.grid(axis="x", color=GRID)
    legend_above(left, 2)
    return fig


def _mark(axes: Axes, height: float, color: str, value: Spread | None, label: str | None) -> None:
    if value is None:
        return
    ends = [1e3 * value.least, 1e3 * value.most]
    axes.plot(ends, [height] * 2, color=color, lw=5, alpha=0.3, solid_capstyle="round")
    axes.plot(1e3 * value.median, height, "o", color=color, ms=7, label=label)
    axes.annotate(
        plain(1e3 * value.median), (ends[1], height), xytext=(8, -3), textcoords="offset points", fontsize=8, color=INK
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--saves", type=int, default=4, help="commits of a process; the first is told apart")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for a process")
    parser.add_argument("--out", type=Path, default=RESULTS / "commit.json")
    options = parser.parse_args()
    if options.rounds < 1 or options.saves < 2:
        parser.error("at least 1 round of 2 saves")
    return options


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
