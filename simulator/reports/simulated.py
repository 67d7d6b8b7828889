"""Figures of a simulation. Knows studies, curves and one recorded run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulator.engine.outcome import Outcome
from simulator.experiments.montecarlo import Study
from simulator.experiments.planner import Curve
from simulator.experiments.statistics import Estimate
from simulator.reports.style import ACCOUNTS, FAINT, GRID, INK, LINES, figure, legend_above, plain, time_axis

_MOST_NODES = 28


def ledger_figure(studies: Sequence[Study]) -> Figure:
    """Where the time goes, a bar for each policy; the shares that are lost are written beside it."""
    fig, axes = figure(height=1.5 + 0.42 * len(studies))
    ordered = sorted(studies, key=lambda study: study.goodput.mean)
    names = [name for name in ACCOUNTS if any(name in one.accounts_s and one.accounts_s[name].mean for one in ordered)]
    for row, study in enumerate(ordered):
        left, wall_s = 0.0, study.wall_s.mean or 1.0
        for name in names:
            share = study.accounts_s[name].mean / wall_s * 100
            axes.barh(row, share, left=left, height=0.62, color=ACCOUNTS[name][1])
            left += share
        axes.text(101, row, f"{study.goodput.mean:.2%} ± {study.goodput.half_width:.2%}", va="center", color=INK)
    axes.set_yticks(range(len(ordered)), [study.policy for study in ordered], color=INK)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of wall time; at the right: goodput with its 95 % interval")
    handles = [Line2D([], [], marker="s", ls="", color=ACCOUNTS[name][1], label=ACCOUNTS[name][0]) for name in names]
    legend_above(axes, len(handles), handles)
    return fig


def timeline_figure(outcome: Outcome) -> Figure:
    """The failures of one run: when, of which node, and how it was survived; below, how many happened until then."""
    fig, axes = figure(height=4.2)
    end_s = outcome.wall_ns / 1e9
    unit_s, _ = time_axis(axes, end_s)
    tiers = sorted({failure.tier for failure in outcome.failures})
    struck = sorted({failure.nodes[0] for failure in outcome.failures})
    few = len(struck) <= _MOST_NODES
    place = {node: row for row, node in enumerate(struck)} if few else {node: node for node in struck}
    if few:
        for row in place.values():
            axes.axhline(row, color=GRID, lw=3, zorder=0)
        axes.set_yticks(range(len(struck)), [f"node {node}" for node in struck], fontsize=7)
    else:
        axes.set_ylabel("node")
    for number, tier in enumerate(tiers):
        mine = [failure for failure in outcome.failures if failure.tier == tier]
        axes.scatter(
            [failure.time_s / unit_s for failure in mine],
            [place[failure.nodes[0]] for failure in mine],
            s=26,
            color=LINES[number % len(LINES)],
            label=f"{tier} ({len(mine)})",
            zorder=3,
            edgecolors="white",
            linewidths=0.6,
        )
    axes.set_xlim(0, end_s / unit_s)
    if tiers:
        legend_above(axes, min(5, len(tiers)))
    else:
        axes.text(0.5, 0.5, "nothing failed", transform=axes.transAxes, ha="center", color=FAINT)
    return fig


def rate_figure(lines: dict[str, list[tuple[float, Estimate]]], per_day: float) -> Figure:
    """Effective time against the failure rate, a line for each policy with its 95 % interval."""
    fig, axes = figure(height=4.4)
    for number, (policy, points) in enumerate(lines.items()):
        rates = np.array([factor for factor, _ in points]) * per_day
        means = np.array([estimate.mean for _, estimate in points]) * 100
        widths = np.array([min(estimate.half_width, 1.0) for _, estimate in points]) * 100
        colour = LINES[number % len(LINES)]
        axes.plot(rates, means, color=colour, lw=2, marker="o", ms=4, label=policy)
        axes.fill_between(
            rates, np.maximum(0, means - widths), np.minimum(100, means + widths), color=colour, alpha=0.15, lw=0
        )
    axes.axvline(per_day, color=FAINT, lw=1, ls=":")
    axes.annotate("as configured", (per_day, 3), xytext=(4, 0), textcoords="offset points", color=FAINT, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [plain(rate) for rate in rates])
    axes.set_ylim(0, 101)
    axes.grid(color=GRID)
    axes.set_xlabel("failures of the job a day")
    axes.set_ylabel("effective time, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    return fig


def interval_figure(curves: dict[str, Curve], daly_s: float | None) -> Figure:
    """Effective time against the commit interval, a line for each policy; its best point, and Daly's interval."""
    fig, axes = figure(height=3.8)
    for place, (policy, curve) in enumerate(curves.items()):
        minutes = np.array([point.value for point in curve.points]) / 60
        means = np.array([point.effective.mean for point in curve.points]) * 100
        widths = np.array([point.effective.half_width for point in curve.points]) * 100
        colour, best = LINES[place % len(LINES)], curve.best
        axes.fill_between(minutes, means - widths, means + widths, color=colour, alpha=0.15, lw=0)
        axes.plot(minutes, means, color=colour, lw=2, marker="o", ms=4, label=f"{policy}, best at {best.name}")
        axes.plot(best.value / 60, best.effective.mean * 100, "o", ms=10, mfc="none", mec=colour, mew=2)
    if daly_s is not None:
        axes.axvline(daly_s / 60, color=FAINT, lw=1, ls=":")
        axes.annotate(
            f"Daly {plain(daly_s)} s",
            (daly_s / 60, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            color=FAINT,
            fontsize=9,
        )
    low, high = axes.get_ylim()
    if high - low < 1:
        axes.set_ylim(max(0, (low + high) / 2 - 1), min(101, (low + high) / 2 + 1))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.grid(color=GRID)
    axes.set_xlabel("minutes of work between two commits to disk")
    axes.set_ylabel("effective time, %")
    legend_above(axes, len(curves))
    return fig


def recoveries_figure(studies: Sequence[Study]) -> Figure:
    """What one recovery costs by tier and policy, from the recorded runs: detection, pause, work done again."""
    rows = []
    for study in studies:
        failures = study.sample.failures if study.sample else ()
        for tier in sorted({failure.tier for failure in failures}):
            mine = [failure for failure in failures if failure.tier == tier]
            parts = [sum(getattr(one, name) for one in mine) / len(mine) for name in ("detect_s", "pause_s", "lost_s")]
            rows.append((f"{study.policy}: {tier}  ({len(mine)})", parts))
    rows.sort(key=lambda row: -sum(row[1]))
    fig, axes = figure(height=1.5 + 0.36 * max(1, len(rows)))
    for row, (_, parts) in enumerate(rows):
        left = 0.0
        for part, account in zip(parts, ("detection", "recovery", "redone"), strict=True):
            axes.barh(
                row,
                part,
                left=left,
                height=0.62,
                color=ACCOUNTS[account][1],
                label=ACCOUNTS[account][0] if row == 0 else None,
            )
            left += part
        axes.text(left, row, f"  {plain(left)} s", va="center", fontsize=9, color=FAINT)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK, fontsize=9)
    axes.margins(x=0.12)
    axes.set_xlabel("seconds for each failure, mean of the recorded run")
    axes.grid(axis="x", color=GRID)
    if rows:
        legend_above(axes, 3)
    return fig
