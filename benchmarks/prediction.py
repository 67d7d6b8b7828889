"""Benchmark: what the simulator predicts for live runs that it has not seen, against what they measured.

    .venv/bin/python benchmarks/prediction.py --model resnet18 --fit 3 --predict 5

Runs of one workload with kills at random moments. The cost model is fitted to the first runs; for each of the others,
whose schedules were not used, the simulated recovery overhead is held against the measured one, and their sums.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from pathlib import Path
from typing import get_args

import msgspec
from common import RESULTS, BenchError, console, machine_facts, write_result
from ours import GENTLE_S, config_for, prepare, scratch_folder, trainer_environment
from processes import run_limited, take_charge
from recovery_ours import draw_kills
from rich.table import Table

from ft_horovod.core.config import ModelName
from simulator.costs.calibrate import calibrated
from simulator.experiments.predict import Prediction, predict
from simulator.live import read_live

MODELS: tuple[ModelName, ...] = get_args(ModelName)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run: seconds that its failures cost, predicted and measured; their ratio less 1."""

    failures: int
    predicted_s: float
    measured_s: float
    error: float


def main() -> None:
    """Measure, print, write."""
    options = _parse()
    take_charge()
    facts, out, rng = machine_facts(), console(), random.Random(options.seed)
    with scratch_folder() as folder:
        runs = [_run(options, number, rng, folder) for number in range(options.fit + options.predict)]
        costs = calibrated([read_live(path) for path in runs[: options.fit]])
        predictions = [predict(read_live(path), costs) for path in runs[options.fit :]]
    outcomes = list(map(_outcome, predictions))
    total = _outcome(*predictions)
    write_result(options.out, facts, vars(options), runs=outcomes, total=total, costs=costs)
    out.print(_table(outcomes, total))


def _run(options: argparse.Namespace, number: int, rng: random.Random, keep: Path) -> Path:
    """One live run; returns its folder."""
    faults, steps = draw_kills(rng, options.workers, options.spares, number)
    with scratch_folder() as folder:
        command = prepare(config_for(options.model, options.workers, steps, spares=options.spares), folder, faults)
        code = run_limited(command, folder / "output.log", options.limit, env=trainer_environment(), gentle_s=GENTLE_S)
        if code != 0:
            raise BenchError(f"run {number}: exit {code}")
        return Path(shutil.copytree(folder / "run", keep / f"run{number}"))


def _outcome(*predictions: Prediction) -> Outcome:
    predicted_s = sum(one.recovery_s for one in predictions)
    measured_s = sum(one.run.recovery_s for one in predictions)
    return Outcome(
        failures=sum(len(one.failures) for one in predictions),
        predicted_s=predicted_s,
        measured_s=measured_s,
        error=predicted_s / measured_s - 1,
    )


def _table(outcomes: list[Outcome], total: Outcome) -> Table:
    table = Table("run", "failures", "predicted, s", "measured, s", "error", title="Recovery overhead of unseen runs")
    for name, one in [*((str(i + 1), one) for i, one in enumerate(outcomes)), ("all", total)]:
        table.add_row(name, str(one.failures), f"{one.predicted_s:.3f}", f"{one.measured_s:.3f}", f"{one.error:+.1%}")
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=MODELS, default="resnet18")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--spares", type=int, default=2)
    parser.add_argument("--fit", type=int, default=3, help="runs that the cost model is fitted to")
    parser.add_argument("--predict", type=int, default=5, help="runs that are predicted")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "prediction.json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
