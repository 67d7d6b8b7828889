"""One study, or several side by side. Knows what users ask first: what is left, where the rest goes, what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from simulator.engine.outcome import ENDINGS
from simulator.experiments.montecarlo import Study
from simulator.scenario import Scenario
from simulator.views.text import COLOURS, bar, money, percent, span, stacked

_NAMES = {
    "useful": "useful work",
    "commit_stall": "commit stalls",
    "detection": "detection",
    "recovery": "recovery",
    "redone": "redone work",
    "waiting": "waiting for nodes",
    "idle": "idle",
}


def head(scenario: Scenario) -> Text:
    """What was simulated, in one line."""
    cluster = scenario.cluster
    gpus = cluster.nodes * cluster.gpus_per_node
    spares = f" + {cluster.spares:,} spare" if cluster.spares else ""
    lengths = ((scenario.job.wall_h, "wall time"), (scenario.job.work_h, "work"))
    long = [f"{hours:g} h of {what}" for hours, what in lengths if hours is not None]
    title = scenario.title or "simulation"
    return Text.assemble(
        (f" {title}", "bold"),
        (f"   {cluster.nodes:,} nodes{spares}, {gpus:,} GPUs, {' or '.join(long)}", "bright_black"),
    )


def study_view(study: Study, scenario: Scenario, width: int) -> RenderableType:
    """One policy in full."""
    figures = Table.grid(padding=(0, 2))
    rows: list[tuple[str, str, str]] = [
        ("goodput", percent(study.goodput), "useful time / wall time, 95 % interval"),
        ("effective", percent(study.effective), "work at nominal speed / wall time"),
        ("wall time", span(study.wall_s.mean), f"± {span(study.wall_s.half_width)}"),
        (
            "interruptions",
            f"{study.interruptions.mean:,.1f}",
            f"± {study.interruptions.half_width:.1f} a run, planned ones besides: {study.planned.mean:,.1f}",
        ),
    ]
    if study.cost is not None:
        work_h = study.effective.mean * study.wall_s.mean / 3600
        rows.append(("cost", money(study.cost.mean), f"± {money(study.cost.half_width)}; {work_h:,.0f} h of work done"))
    for name, value, note in rows:
        figures.add_row(Text(f" {name}", "bright_black"), Text(value, "bold"), Text(note, "bright_black"))
    ending = ", ".join(f"{count} x {ENDINGS[name]}" for name, count in study.endings.items())
    foot = Text(f" {study.runs} runs: {ending}", "bright_black")
    return Group(
        Text.assemble((f" {study.policy} ", "bold reverse"), "  "),
        Text(),
        figures,
        Text(),
        _ledger(study, width),
        Text(),
        _counts("survived by", study.tiers, width),
        Text(),
        _counts("caused by", study.causes, width),
        Text(),
        foot,
    )


def comparison(studies: Sequence[Study], width: int) -> Table:
    """All policies in one table, the best first."""
    table = Table(box=None, padding=(0, 1), header_style="bright_black", pad_edge=True)
    for title in ("policy", "goodput %", "effective %", "fail/h", "recov", "redo", "wait", "cost"):
        table.add_column(title, justify="left" if title == "policy" else "right", no_wrap=True)
    cells = max(8, width - 90)
    table.add_column("where the time goes", no_wrap=True)
    for study in sorted(studies, key=lambda one: -one.effective.mean):
        wall_s = study.wall_s.mean or 1.0
        shares = {name: amount.mean / wall_s for name, amount in study.accounts_s.items()}
        table.add_row(
            Text(study.policy, "bold red" if study.stuck else "bold"),
            f"{study.goodput.mean * 100:.2f} ± {study.goodput.half_width * 100:.2f}",
            f"{study.effective.mean * 100:.2f} ± {study.effective.half_width * 100:.2f}",
            f"{study.interruptions.mean / wall_s * 3600:.2f}",
            f"{(shares['recovery'] + shares['detection']) * 100:.2f}",
            f"{shares['redone'] * 100:.2f}",
            f"{shares['waiting'] * 100:.2f}",
            money(None if study.cost is None else study.cost.mean),
            Text("cannot progress", "red") if study.stuck else stacked(shares, cells),
        )
    return table


def legend() -> Text:
    """The colours of the accounts."""
    line = Text(" ")
    for name, colour in COLOURS.items():
        line.append("■ ", colour).append(f"{_NAMES[name]}  ", "bright_black")
    return line


def _ledger(study: Study, width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    wall_s = study.wall_s.mean or 1.0
    cells = max(10, width - 58)
    for name, amount in study.accounts_s.items():
        share = amount.mean / wall_s
        table.add_row(
            Text(f" {_NAMES[name]}", COLOURS[name]),
            Text(f"{share * 100:6.2f} %", "bold"),
            Text(f"{span(amount.mean):>9} ± {span(amount.half_width)}", "bright_black"),
            bar(share, cells, COLOURS[name]),
        )
    return table


def _counts(title: str, counts: dict[str, float], width: int) -> Text:
    line = Text(f" {title}  ", "bright_black")
    for name, count in sorted(counts.items(), key=lambda item: -item[1])[:8]:
        line.append(f"{name} ", "").append(f"{count:,.1f}", "bold").append("   ")
    line.truncate(max(20, 3 * width))
    return line
