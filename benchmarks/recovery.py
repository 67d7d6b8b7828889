"""Benchmark: time from the SIGKILL of a worker to the next finished step, ours and stock elastic Horovod's.

    .venv/bin/python benchmarks/recovery.py --workers 4 8 --models tiny resnet50 --tries 5 --stock-tries 5

Both run in turn on the same machine, with the same model, samples and batch. Ours runs with fault schedules that kill
several workers a run, leaders among them, at random moments of a step; stock elastic Horovod survives one kill a run
at best. All times are wall-clock, from right before the victim kills itself.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from common import RESULTS, Spread, console, in_ms, machine_facts, spread, write_result
from ours import TrainerRun, config_for, train
from processes import take_charge
from recovery_ours import KillCost, costs, draw_kills
from recovery_stock import LIMIT_S, StockTry, try_stock
from rich.console import Console
from rich.table import Table

from ft_horovod.core.config import ModelName
from ft_horovod.status.ledger import PHASES

MODELS: tuple[ModelName, ...] = get_args(ModelName)


@dataclass
class Case:
    """One model on so many workers: all kills of ours by number of spares, and stock's tries."""

    model: ModelName
    workers: int
    ours: dict[int, list[KillCost]]
    problems: list[str] = field(default_factory=list)
    stock: list[StockTry] = field(default_factory=list)

    def ours_total(self, spares: int) -> Spread | None:
        return spread([cost.total_s for cost in self.ours[spares]])

    def of_stock(self, figure: str) -> list[float]:
        """A figure of all tries that recovered."""
        return [getattr(one, figure) for one in self.stock if one.outcome == "recovered"]

    def stock_total(self) -> Spread | None:
        return spread(self.of_stock("total_s"))

    def ratio(self) -> float | None:
        """Median of stock over median of ours with the fewest spares."""
        ours, stock = self.ours_total(min(self.ours)), self.stock_total()
        return stock.median / ours.median if ours and stock else None

    def as_json(self) -> dict[str, object]:
        return {
            "model": self.model,
            "workers": self.workers,
            "ours": [_ours_as_json(spares, kills) for spares, kills in self.ours.items()],
            "problems": self.problems,
            "stock": {
                "total_s": self.stock_total(),
                "less_one_step_s": spread(self.of_stock("less_one_step_s")),
                "delay_s": spread(self.of_stock("delay_s")),
                "tries": self.stock,
            },
            "stock_over_ours": self.ratio(),
        }


def main() -> None:
    """Measure, print, write."""
    options = _parse()
    take_charge()
    facts, out, rng = machine_facts(), console(), random.Random(options.seed)
    cases = []
    for model in options.models:
        for workers in options.workers:
            case = Case(model, workers, {spares: [] for spares in options.spares})
            cases.append(case)
            for line in _measure(case, options, rng, out):
                out.print(line)
                write_result(options.out, facts, vars(options), cases=[one.as_json() for one in cases])
    out.print(_table(cases))


def _measure(case: Case, options: argparse.Namespace, rng: random.Random, out: Console) -> Iterator[str]:
    """Ours with each number of spares, then stock, again and again; a line on how it stands after each turn."""
    stock_tries = options.stock_tries if options.fault == "kill" and case.model in options.stock_models else 0
    for number in range(max(options.tries, stock_tries)):
        if number < options.tries:
            for spares, kills in case.ours.items():
                run, found = _try_ours(case, spares, number, rng, options)
                kills += found
                if run.problem:
                    case.problems.append(f"{spares} spares, try {number + 1}: {run.problem}")
                    out.print(f"{case.problems[-1]}\n{run.message}", style="red", markup=False)
        if number < stock_tries:
            case.stock.append(try_stock(config_for(case.model, case.workers, 1), rng, options.stock_limit))
        yield f"{case.model}, {case.workers} workers, try {number + 1}: {_latest(case)}"


def _try_ours(
    case: Case, spares: int, number: int, rng: random.Random, options: argparse.Namespace
) -> tuple[TrainerRun, list[KillCost]]:
    faults, steps = draw_kills(rng, case.workers, spares, number, options.fault)
    run = train(config_for(case.model, case.workers, steps, spares=spares), options.limit, faults)
    return run, costs(run.events, options.fault)


def _latest(case: Case) -> str:
    parts = [f"ours with {spares} spares {in_ms(case.ours_total(spares))} ms" for spares in case.ours]
    if case.stock:
        parts.append(f"stock {case.stock[-1].outcome}, all {in_ms(case.stock_total())} ms")
    return "; ".join(parts)


def _ours_as_json(spares: int, kills: list[KillCost]) -> dict[str, object]:
    return {
        "spares": spares,
        "total_s": spread([kill.total_s for kill in kills]),
        "less_one_step_s": spread([kill.less_one_step_s for kill in kills]),
        "delay_s": spread([kill.delay_s for kill in kills]),
        "leader_total_s": spread([kill.total_s for kill in kills if kill.leader]),
        "phases_s": {phase: spread(_phase(kills, phase)) for phase in PHASES},
        "kills": kills,
    }


def _phase(kills: Iterable[KillCost], phase: str) -> list[float]:
    return [kill.phases[phase] for kill in kills if phase in kill.phases]


def _table(cases: list[Case]) -> Table:
    table = Table(title="From the fault to the next finished step: median (least to most), ms")
    for heading in ("model", "workers", "", "kills", "total", "less one step", "delay", *PHASES, "stock / ours"):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for case in cases:
        for spares, kills in case.ours.items():
            table.add_row(
                case.model,
                str(case.workers),
                f"ours, {spares} spares",
                str(len(kills)),
                in_ms(case.ours_total(spares)),
                in_ms(spread([kill.less_one_step_s for kill in kills])),
                _median_ms([kill.delay_s for kill in kills]),
                *(_median_ms(_phase(kills, phase)) for phase in PHASES),
            )
        table.add_row(*_stock_row(case))
    return table


def _median_ms(values_s: list[float]) -> str:
    figure = spread(values_s)
    return f"{1e3 * figure.median:,.1f}" if figure else "-"


def _stock_row(case: Case) -> list[str]:
    if not case.stock:
        return [case.model, str(case.workers), "stock: not tried"]
    lost = [one.outcome for one in case.stock if one.outcome != "recovered"]
    name = "stock" + (f" ({len(lost)} not recovered)" if lost else "")
    ratio = case.ratio()
    factor = f"{ratio:,.0f} times" if ratio else "-"
    cells = [case.model, str(case.workers), name, str(len(case.stock)), in_ms(case.stock_total())]
    cells += [in_ms(spread(case.of_stock("less_one_step_s"))), _median_ms(case.of_stock("delay_s"))]
    return [*cells, *[""] * len(PHASES), factor]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "resnet50"])
    parser.add_argument("--spares", type=int, nargs="+", default=[0, 1], help="one variant of ours for each")
    parser.add_argument("--fault", choices=["kill", "hang"], default="kill", help="SIGKILL or SIGSTOP (ours alone)")
    parser.add_argument("--tries", type=int, default=5, help="runs of ours for each variant; each has several kills")
    parser.add_argument("--stock-tries", type=int, default=5, help="runs of stock, one kill each, 30 s and more")
    parser.add_argument("--stock-models", nargs="*", choices=MODELS, default=["tiny", "resnet50"])
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a run of ours")
    parser.add_argument("--stock-limit", type=float, default=LIMIT_S, help="seconds for a run of stock")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "recovery.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
