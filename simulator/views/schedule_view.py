"""A fault schedule as a picture: how many nodes are there over time, and who is away when. Knows changes only."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from simulator.schedules.changes import Changes
from simulator.views.text import span

_ROWS = 24
_LEVELS = 8


def schedule_view(trace: Changes, name: str, width: int) -> RenderableType:
    """The number of nodes as a filled curve, then the nodes that are away most, a line each."""
    cells = max(20, width - 22)
    end_s = trace.end_s * 1.02 or 1.0
    away = _intervals(trace, end_s)
    gone = [(start_s, stop_s) for spans in away.values() for start_s, stop_s in spans]
    total_s = sum(stop_s - start_s for start_s, stop_s in gone)
    losses = sum(not change.up for change in trace.changes)
    nodes = {*trace.present, *(change.node for change in trace.changes)}
    facts = (
        f"   {len(trace.present)} nodes at first, {len(nodes)} names in all, {losses} losses in {span(trace.end_s)}, "
        f"one every {span(trace.end_s / max(1, losses))}; a node is away for {span(total_s / max(1, len(gone)))}"
    )
    title = Text.assemble((f" {name}", "bold"), (facts, "bright_black"))
    lines: list[RenderableType] = [title, Text(), *_curve(trace, end_s, cells), Text()]
    worst = sorted(away, key=lambda node: (-len(away[node]), node))[:_ROWS]
    for node in sorted(worst):
        lines.append(_row(node, away[node], end_s, cells))
    hidden = len(away) - len(worst)
    lines.append(Text(f" {'':18}0{span(trace.end_s):>{cells - 1}}", "bright_black"))
    if hidden > 0:
        lines.append(Text(f" {hidden} more nodes fail", "bright_black"))
    return Group(*lines)


def _intervals(trace: Changes, end_s: float) -> dict[str, list[tuple[float, float]]]:
    """When each node that is ever away is away; those that come later are away before."""
    away: dict[str, list[tuple[float, float]]] = {}
    since = {change.node: 0.0 for change in trace.changes if change.node not in trace.present}
    for change in trace.changes:
        if change.up:
            start_s = since.pop(change.node, change.time_s)
            if change.time_s > start_s:
                away.setdefault(change.node, []).append((start_s, change.time_s))
        else:
            since[change.node] = change.time_s
    for node, start_s in since.items():
        away.setdefault(node, []).append((start_s, end_s))
    return away


def _curve(trace: Changes, end_s: float, cells: int) -> list[Text]:
    """The number of nodes in each cell of time at its end, between the least and the most."""
    heights, count, index = [], len(trace.present), 0
    least = most = count
    for cell in range(cells):
        until_s = end_s * (cell + 1) / cells
        low = count
        while index < len(trace.changes) and trace.changes[index].time_s < until_s:
            count += 1 if trace.changes[index].up else -1
            low = min(low, count)
            index += 1
        heights.append(low)
        least, most = min(least, low), max(most, count, low)
    floor = max(0, least - max(1, (most - least) // 4))
    lines = []
    rows = 4
    for row in range(rows, 0, -1):
        label = most if row == rows else floor if row == 1 else ""
        line = Text(f" {label!s:>16}  ", "bright_black")
        for height in heights:
            filled = (height - floor) / max(1, most - floor) * rows - (row - 1)
            level = max(0, min(_LEVELS, round(filled * _LEVELS)))
            line.append(" ▁▂▃▄▅▆▇█"[level], "green" if height == most else "yellow")
        lines.append(line)
    return lines


def _row(node: str, spans: list[tuple[float, float]], end_s: float, cells: int) -> Text:
    label = node if len(node) <= 16 else node[:7] + "…" + node[-8:]
    drawn = ["─"] * cells
    for start_s, stop_s in spans:
        first = min(cells - 1, int(start_s / end_s * cells))
        for cell in range(first, max(first + 1, min(cells, int(stop_s / end_s * cells)))):
            drawn[cell] = "█"
    line = Text(f" {label:>16}  ", "bright_black")
    for mark in drawn:
        line.append(mark, "red" if mark == "█" else "bright_black")
    return line
