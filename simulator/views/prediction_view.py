"""Predicted against measured, for each failure and phase. Knows predictions."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.costs.calibrate import PHASES
from simulator.experiments.predict import Prediction


def prediction_view(prediction: Prediction, *, own: bool, width: int) -> RenderableType:
    """A line for each failure: predicted and measured milliseconds of each phase, and what it cost in all."""
    run = prediction.run
    title = Text.assemble((f" {run.name}", "bold"), ("  predicted / measured, milliseconds", "bright_black"))
    if own:
        title.append("   calibrated on this very run: a fit, no prediction", "yellow")
    table = Table(box=None, padding=(0, 1), header_style="bright_black")
    for name in ("step", "kind"):
        table.add_column(name, justify="left")
    for name in (*PHASES, "total", "cost"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in prediction.failures:
        failure = one.failure
        cells = [_pair(one.phases_s[name], failure.phases_s[name]) for name in PHASES]
        cells += [_pair(one.total_s, failure.total_s), _pair(one.cost_s, failure.cost_s)]
        table.add_row(str(failure.step), failure.kind, *cells)
    wall = _error(prediction.wall_s, run.wall_s)
    goodput = run.useful_s / run.wall_s
    foot = Text.assemble(
        (" recovery overhead  ", "bright_black"), (f"{prediction.recovery_s:.3f} s / {run.recovery_s:.3f} s", "bold"),
        (f"  {_error(prediction.recovery_s, run.recovery_s)}", "bold"),
        (f"   booked by the kernel: {prediction.kernel_s:.3f} s", "bright_black"),
        ("\n wall time          ", "bright_black"), (f"{prediction.wall_s:.1f} s / {run.wall_s:.1f} s  {wall}", "bold"),
        ("\n goodput            ", "bright_black"), (f"{prediction.goodput:.1%} / {goodput:.1%}", "bold"),
    )  # fmt: skip
    return Group(title, Text(), table, Text(), foot)


def _pair(predicted_s: float, measured_s: float) -> str:
    return f"{predicted_s * 1e3:,.1f}/{measured_s * 1e3:,.1f}"


def _error(predicted: float, measured: float) -> str:
    return f"({(predicted / measured - 1) * 100:+.1f} %)" if measured else ""
