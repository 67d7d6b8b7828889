"""The advice, and the curves behind it. Knows plans."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.experiments.planner import Curve, Plan
from simulator.views.text import bar, money, percent


def plan_view(plan: Plan, width: int) -> RenderableType:
    """Advice first, then each curve with its best point marked."""
    advice = Text(" choose  ", "bold")
    advice.append("   ".join(f"{curve.what}: {curve.best.name}" for curve in plan.curves), "bold green")
    parts: list[RenderableType] = [advice, Text()]
    for curve in plan.curves:
        parts += [_curve(curve, width), Text()]
    last = plan.curves[-1].best
    parts.append(
        Text(f" then {percent(last.effective)} of the time is effective; cost {money(last.cost)}", "bright_black")
    )
    return Group(*parts)


def _curve(curve: Curve, width: int) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bright_black", title_justify="left")
    table.add_column(f" {curve.what}", min_width=18)
    for title in ("effective", "per paid node", "cost"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("")
    most = max(point.worth for point in curve.points) or 1.0
    least = min(point.worth for point in curve.points)
    floor = max(0.0, least - (most - least) * 0.2)
    cells = max(10, width - 72)
    for point in curve.points:
        best = point is curve.best or point == curve.best
        share = (point.worth - floor) / (most - floor) if most > least else 1.0
        table.add_row(
            Text(f" {point.name}", "bold green" if best else ""),
            percent(point.effective),
            f"{point.worth * 100:.2f} %",
            money(point.cost),
            bar(share, cells, "green" if best else "bright_black"),
        )
    return table
