"""Benchmark: what fault tolerance costs while nothing fails, against plain Horovod on the same machine.

    .venv/bin/python benchmarks/overhead.py --models tiny resnet18 resnet50 --workers 4 --rounds 5

Ours (`ft-horovod train`, default settings, no faults) and plain Horovod (`plain_horovod.py`, by the same mpirun without
fault tolerance) run in turn, with the same model, samples, shares and threads. Compared are the median step, timed on
rank 0 from its begin to its end, and the median period from one step's end to the next one's, which also holds what is
done between steps. The first steps do not count.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast, get_args

import msgspec
from common import RESULTS, ROOT, BenchError, Spread, console, in_ms, machine_facts, spread, write_result
from ours import config_for, scratch_folder, train, trainer_environment
from processes import log_tail, run_limited, take_charge
from rich.table import Table

from ft_horovod.core.config import CommitConfig, ModelName, RunConfig, WatchConfig
from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.trace import StepFinished
from launch.mpirun import mpirun_command, worker_environment

MODELS: tuple[ModelName, ...] = get_args(ModelName)
STEPS = {"tiny": 400, "resnet18": 80, "resnet34": 60, "resnet50": 50, "resnet101": 40}
_COLD_STEPS = 5
_OURS_ONLY = "HOROVOD_FUSION_THRESHOLD"  # we hand over buckets; plain Horovod fuses as it does by default


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Median step and median period of one run, in seconds."""

    step_s: float
    period_s: float


def ours(config: RunConfig, limit_s: float) -> Pace:
    """One run of our trainer. Raises BenchError."""
    run = train(config, limit_s)
    if run.problem:
        raise BenchError(f"ours: {run.problem}\n{run.message}")
    steps = [event for event in run.events if isinstance(event, StepFinished)]
    return Pace(
        step_s=statistics.median(event.step_s for event in steps[_COLD_STEPS:]),
        period_s=statistics.median(b.time_s - a.time_s for a, b in pairwise(steps[_COLD_STEPS - 1 :])),
    )


def without_watch(config: RunConfig, limit_s: float) -> Pace:
    """Ours without the hang watch. Raises BenchError."""
    return ours(msgspec.structs.replace(config, watch=WatchConfig(enabled=False)), limit_s)


def without_commits(config: RunConfig, limit_s: float) -> Pace:
    """Ours without copies to host memory and commits to disk. Raises BenchError."""
    return ours(msgspec.structs.replace(config, commit=CommitConfig(policy="off")), limit_s)


def every_step(config: RunConfig, limit_s: float) -> Pace:
    """Ours with a copy to host memory in every step. Raises BenchError."""
    return ours(msgspec.structs.replace(config, commit=CommitConfig(policy="memory=1,disk=off")), limit_s)


def plain(config: RunConfig, limit_s: float) -> Pace:
    """One run of plain Horovod. Raises BenchError."""
    workers = config.layout.workers
    with scratch_folder() as folder:
        path, times, log = folder / "config.yaml", folder / "times.json", folder / "output.log"
        path.write_text(encode_yaml(config))
        program = [sys.executable, str(ROOT / "benchmarks" / "plain_horovod.py"), str(path), str(times)]
        environment = worker_environment(workers) | trainer_environment()
        del environment[_OURS_ONLY]
        code = run_limited(_plain_command(config, workers, program), log, limit_s, env=environment)
        if code != 0:
            raise BenchError(f"plain Horovod: exit {code}\n{log_tail(log)}")
        took = msgspec.json.decode(times.read_bytes(), type=dict[str, list[float] | float])
    step_s, period_s = cast(list[float], took["step_s"]), cast(list[float], took["period_s"])
    return Pace(step_s=statistics.median(step_s[_COLD_STEPS:]), period_s=statistics.median(period_s[_COLD_STEPS:]))


def _plain_command(config: RunConfig, workers: int, program: list[str]) -> list[str]:
    """Our mpirun line less what is ours alone."""
    command = mpirun_command(config.launcher, workers, program)
    for words in (["--with-ft", "ulfm"], ["--mca", "coll", "^han,sm,adapt"], ["-x", _OURS_ONLY]):
        place = next(i for i in range(len(command)) if command[i : i + len(words)] == words)
        del command[place : place + len(words)]
    return command


Arm = Callable[[RunConfig, float], Pace]


def main() -> None:
    """Measure, print, write."""
    options = _parse()
    take_charge()
    facts, out = machine_facts(), console()
    arms: dict[str, Arm] = {"plain": plain, "ours": ours}
    if options.ablate:
        arms["ours, no watch"] = without_watch
    if options.commits:
        arms = {"no commits": without_commits, "memory every step": every_step}
    rounds: dict[str, list[dict[str, Pace]]] = {}
    for model in options.models:
        config = config_for(model, options.workers, options.steps or STEPS[model])
        rounds[model] = []
        for number in range(options.rounds):
            rounds[model].append({name: arm(config, options.limit) for name, arm in arms.items()})
            out.print(f"{model}, round {number + 1}: {_tell(rounds[model][-1])}")
            write_result(options.out, facts, vars(options), models=_as_json(rounds))
    out.print(_table(rounds))


def _ratio(rounds: list[dict[str, Pace]], arm: str, figure: str) -> Spread | None:
    """How many times the first arm's time, round by round."""
    return spread([getattr(one[arm], figure) / getattr(next(iter(one.values())), figure) for one in rounds])


def _as_json(rounds: dict[str, list[dict[str, Pace]]]) -> dict[str, object]:
    return {
        model: {
            "rounds": taken,
            "arms": {
                arm: {
                    "step_s": spread([one[arm].step_s for one in taken]),
                    "period_s": spread([one[arm].period_s for one in taken]),
                    "step_over_first": _ratio(taken, arm, "step_s"),
                    "period_over_first": _ratio(taken, arm, "period_s"),
                }
                for arm in taken[0]
            },
        }
        for model, taken in rounds.items()
    }


def _tell(one: dict[str, Pace]) -> str:
    return ", ".join(f"{arm} {1e3 * pace.step_s:.2f} ms" for arm, pace in one.items())


def _table(rounds: dict[str, list[dict[str, Pace]]]) -> Table:
    table = Table(title="Without failures: median over rounds (least to most)")
    for heading in ("model", "", "step, ms", "step to step, ms", "overhead of a step", "step to step"):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for model, taken in rounds.items():
        for arm in taken[0]:
            table.add_row(
                model,
                arm,
                in_ms(spread([one[arm].step_s for one in taken])),
                in_ms(spread([one[arm].period_s for one in taken])),
                *(_in_percent(_ratio(taken, arm, figure)) for figure in ("step_s", "period_s")),
            )
    return table


def _in_percent(ratio: Spread | None) -> str:
    if ratio is None or ratio.least == ratio.most == 1:
        return "-"
    return f"{ratio.median - 1:+.1%} ({ratio.least - 1:+.1%} to {ratio.most - 1:+.1%})"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["tiny", "resnet18", "resnet50"])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of a run; fewer for larger models when not given")
    parser.add_argument("--ablate", action="store_true", help="ours without the hang watch as well")
    parser.add_argument(
        "--commits",
        action="store_true",
        help="instead: ours without commits against ours with one to host memory every step",
    )
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for a run")
    parser.add_argument("--out", type=Path, default=RESULTS / "overhead.json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
