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
from simulator.reports.style import ACCOUNTS, FAINT, GRID, INK, LINES, figure, time_axis

_MOST_NODES = 28


def ledger_figure(studies: Sequence[Study]) -> Figure:
    """Where the time goes, a bar for each policy; the shares that are lost are written beside it."""
    fig, axes = figure(height=1.5 + 0.42 * len(studies))
    ordered = sorted(studies, key=lambda study: study.goodput.mean)
    for row, study in enumerate(ordered):
        left, wall_s = 0.0, study.wall_s.mean or 1.0
        for name, amount in study.accounts_s.items():
            share = amount.mean / wall_s * 100
            axes.barh(row, share, left=left, height=0.62, color=ACCOUNTS[name][1])
            left += share
        axes.text(101, row, f"{study.goodput.mean:.2%} ± {study.goodput.half_width:.2%}", va="center", color=INK)
    axes.set_yticks(range(len(ordered)), [study.policy for study in ordered], color=INK)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of wall time; at the right: goodput with its 95 % interval")
    names = [name for name in ordered[0].accounts_s if any(study.accounts_s[name].mean for study in ordered)]
    handles = [Line2D([], [], marker="s", ls="", color=ACCOUNTS[name][1], label=ACCOUNTS[name][0]) for name in names]
    axes.legend(handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(-0.01, 1.0), fontsize=9,
                handletextpad=0.2, columnspacing=1.2)  # fmt: skip
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
        axes.scatter([failure.time_s / unit_s for failure in mine], [place[failure.nodes[0]] for failure in mine], s=26,
                     color=LINES[number % len(LINES)], label=f"{tier} ({len(mine)})", zorder=3,
                     edgecolors="white", linewidths=0.6)  # fmt: skip
    axes.set_xlim(0, end_s / unit_s)
    if tiers:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=min(5, len(tiers)), fontsize=9, handletextpad=0.2)
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
        axes.fill_between(rates, np.maximum(0, means - widths), np.minimum(100, means + widths), color=colour, alpha=0.15,
                          lw=0)  # fmt: skip
    axes.axvline(per_day, color=FAINT, lw=1, ls=":")
    axes.annotate("as configured", (per_day, 3), xytext=(4, 0), textcoords="offset points", color=FAINT, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [f"{rate:,.3g}" for rate in rates])
    axes.set_ylim(0, 101)
    axes.grid(color=GRID)
    axes.set_xlabel("failures of the job a day")
    axes.set_ylabel("effective time, %")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
    return fig


def interval_figure(curve: Curve, policy: str, daly_s: float | None) -> Figure:
    """Effective time against the commit interval; the best point, and Daly's where it is known."""
    fig, axes = figure(height=3.6)
    minutes = np.array([point.value for point in curve.points]) / 60
    means = np.array([point.effective.mean for point in curve.points]) * 100
    widths = np.array([point.effective.half_width for point in curve.points]) * 100
    axes.fill_between(minutes, means - widths, means + widths, color=LINES[0], alpha=0.15, lw=0)
    axes.plot(minutes, means, color=LINES[0], lw=2, marker="o", ms=4)
    best = curve.best
    axes.plot(best.value / 60, best.effective.mean * 100, "o", ms=10, mfc="none", mec=LINES[1], mew=2)
    axes.annotate(f"best: {best.name}", (best.value / 60, best.effective.mean * 100), xytext=(0, -20), color=LINES[1],
                  textcoords="offset points", ha="center")  # fmt: skip
    if daly_s is not None:
        axes.axvline(daly_s / 60, color=FAINT, lw=1, ls=":")
        axes.annotate(f"Daly {daly_s:,.0f} s", (daly_s / 60, 0.03), xycoords=("data", "axes fraction"), xytext=(4, 0),
                      textcoords="offset points", color=FAINT, fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color=GRID)
    axes.set_xlabel(f"minutes of work between two commits ({policy})")
    axes.set_ylabel("effective time, %")
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
            axes.barh(row, part, left=left, height=0.62, color=ACCOUNTS[account][1], label=ACCOUNTS[account][0] if row == 0 else None)
            left += part
        axes.text(left, row, f"  {left:,.3g} s", va="center", fontsize=9, color=FAINT)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK, fontsize=9)
    axes.margins(x=0.12)
    axes.set_xlabel("seconds for each failure, mean of the recorded run")
    axes.grid(axis="x", color=GRID)
    if rows:
        axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(-0.01, 1.0), fontsize=9)
    return fig
