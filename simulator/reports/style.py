"""One look for all figures: colours of accounts and phases, fonts, bare axes. Knows matplotlib, nothing of runs."""

from __future__ import annotations

import base64
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import RcKeyType

ACCOUNTS = {
    "useful": ("useful work", "#2f9e6e"),
    "commit_stall": ("commit stalls", "#3ba7c4"),
    "detection": ("detection", "#9b5fc0"),
    "recovery": ("recovery", "#e8a33d"),
    "redone": ("redone work", "#d9534f"),
    "waiting": ("waiting for nodes", "#4c72b0"),
    "idle": ("idle", "#b8bec6"),
    "other": ("evaluation, joins, between steps", "#b8bec6"),
}
PHASES = {
    "detect": ("detect", "#9b5fc0"),
    "shrink": ("shrink", "#e8a33d"),
    "replan": ("replan", "#7d8794"),
    "restore": ("restore", "#3ba7c4"),
    "reinit": ("re-init", "#4c72b0"),
    "redo": ("redo", "#d9534f"),
}
LINES = ("#2f9e6e", "#d9534f", "#4c72b0", "#e8a33d", "#9b5fc0", "#3ba7c4", "#7d8794", "#8c6d4f", "#c46ba0", "#1f3d5a")
INK, FAINT, GRID = "#1d2733", "#7d8794", "#e6e9ed"

_RC: dict[RcKeyType, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "text.color": INK,
    "legend.frameon": False,
}


def figure(width: float = 10.5, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure of so many inches with one pair of axes."""
    fig, (axes,) = panels(1, width, height)
    return fig, axes


def panels(count: int, width: float = 10.5, height: float = 3.6) -> tuple[Figure, list[Axes]]:
    """An empty figure with several pairs of axes side by side."""
    with mpl.rc_context(_RC):
        fig = Figure(figsize=(width, height), layout="constrained")
        beside = [fig.add_subplot(1, count, number + 1) for number in range(count)]
    for axes in beside:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_axisbelow(True)
    return fig, beside


def legend_above(axes: Axes, columns: int, handles: list[Line2D] | None = None) -> None:
    """A legend in a row above the axes."""
    axes.legend(
        handles=handles, ncols=columns, loc="lower left", bbox_to_anchor=(-0.01, 1.0), fontsize=9, frameon=False,
        handletextpad=0.3, columnspacing=1.4, borderpad=0.2,
    )  # fmt: skip


def plain(value: float) -> str:
    """As 0.0123, 12.3 or 1,234."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def save(fig: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with mpl.rc_context(_RC):
        fig.savefig(path, dpi=150, facecolor="white")


def embedded(path: Path) -> str:
    """A PNG as a data address, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def time_axis(axes: Axes, end_s: float) -> tuple[float, str]:
    """The unit that suits so many seconds: what to divide by, and its name, which the axis gets."""
    for seconds, name in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if end_s > 3 * seconds:
            axes.set_xlabel(name)
            return seconds, name
    axes.set_xlabel("seconds")
    return 1.0, "seconds"
