"""Numbers as words, and bars. Knows widths and colours, nothing of simulations."""

from __future__ import annotations

from rich.text import Text

from simulator.experiments.statistics import Estimate

COLOURS = {
    "useful": "green",
    "commit_stall": "cyan",
    "detection": "magenta",
    "recovery": "yellow",
    "redone": "red",
    "waiting": "blue",
    "idle": "bright_black",
}


def percent(estimate: Estimate) -> str:
    """As 97.31 % ± 0.12."""
    return f"{estimate.mean * 100:.2f} % ± {estimate.half_width * 100:.2f}"


def span(seconds: float) -> str:
    """As 0.3 s, 12 min, 3.4 h or 12.1 d."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def money(amount: float | None) -> str:
    """As 12,480 or -."""
    return "-" if amount is None else f"{amount:,.0f}"


def bar(share: float, cells: int, colour: str) -> Text:
    """A bar of `share` of the cells, to an eighth of one."""
    eighths = max(0, min(cells * 8, round(share * cells * 8)))
    text = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
    return Text(text, style=colour)


def stacked(shares: dict[str, float], cells: int) -> Text:
    """Shares of 1 side by side in the accounts' colours; what is there at all gets at least a sliver."""
    line, drawn, total = Text(), 0, 0.0
    for name, share in shares.items():
        total += share
        until = round(total * cells)
        line.append("█" * (until - drawn), style=COLOURS.get(name, "white"))
        drawn = until
    return line
