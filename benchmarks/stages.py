"""Benchmark: a model split over stages: step time, what backups cost, recovery of a leader, the pipeline's bubble.

    .venv/bin/python benchmarks/stages.py --model resnet50 --rounds 5

Everything runs in turn on the same machine, with the same samples, batch and micro-batches. With more workers than
processors a pipeline is not faster than one process; what is compared is the work, and what backups add to it. The
bubble is measured with as many stages as there are processors, one thread each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import get_args

import msgspec
from common import RESULTS, BenchError, Spread, console, in_ms, machine_facts, spread, write_result
from ours import TrainerRun, train
from processes import take_charge
from recovery_ours import KillCost, costs
from rich.table import Table

from ft_horovod.core.config import DataConfig, LayoutConfig, ModelConfig, ModelName, RunConfig
from ft_horovod.core.schedule import At, Fault, FaultSchedule, Target
from ft_horovod.core.trace import StepFinished

MODELS: tuple[ModelName, ...] = get_args(ModelName)
STAGES = 5
_COLD_STEPS = 3
_KILL_EVERY_STEPS = 8

LAYOUTS = {
    "one process": LayoutConfig(workers=1),
    "data-parallel, 5 workers": LayoutConfig(workers=STAGES, respawn=False),
    "5 stages": LayoutConfig(stages=STAGES, backups=0, respawn=False),
    "5 stages, a replica each": LayoutConfig(stages=STAGES, backups=1, respawn=False),
    "5 stages, a standby each": LayoutConfig(stages=STAGES, backups=1, role="standby", respawn=False),
}
PLAIN = "5 stages"


class Bubble(msgspec.Struct, frozen=True, kw_only=True):
    """Share of a step that members wait for other stages; in theory (p - 1) / (m + p - 1)."""

    stages: int
    micro_batches: int
    measured: Spread | None
    theory: float


def main() -> None:
    """Measure, print, write."""
    options = _parse()
    take_charge()
    facts, out = machine_facts(), console()
    rounds: list[dict[str, float]] = []
    kills: list[KillCost] = []
    bubbles: list[Bubble] = []

    def save() -> None:
        write_result(options.out, facts, vars(options), rounds=rounds, over_plain=_over_plain(rounds),
                     kills=kills, kill_less_one_step_s=spread([kill.less_one_step_s for kill in kills]),
                     bubbles=bubbles)  # fmt: skip

    for number in range(options.rounds):
        rounds.append({name: _step_s(_run(options, layout, options.steps)) for name, layout in LAYOUTS.items()})
        out.print(f"round {number + 1}: " + ", ".join(f"{name} {1e3 * s:.0f} ms" for name, s in rounds[-1].items()))
        kills += _kill_leaders(options, number)
        out.print(f"round {number + 1}: leaders killed, less one step: {in_ms(spread(_less(kills)))} ms")
        save()
    for micro_batches in options.bubbles:
        bubbles.append(_bubble(options, micro_batches))
        save()
    out.print(_step_table(rounds))
    out.print(_bubble_table(bubbles))


def _less(kills: list[KillCost]) -> list[float]:
    return [kill.less_one_step_s for kill in kills]


def _run(
    options: argparse.Namespace, layout: LayoutConfig, steps: int, faults: FaultSchedule | None = None, micro: int = 0
) -> TrainerRun:
    config = RunConfig(
        model=ModelConfig(name=options.model, norm="group", device="cpu"),
        data=DataConfig(name="digits", batch_size=options.batch_size, micro_batch=micro or options.micro_batch),
        layout=layout,
        steps=steps,
    )
    run = train(config, options.limit, faults)
    if run.problem:
        raise BenchError(f"{layout}: {run.problem}\n{run.message}")
    return run


def _step_s(run: TrainerRun) -> float:
    """Median step: whole ones, not the small one at the end of an epoch, and none of the first."""
    steps = [event for event in run.events if isinstance(event, StepFinished)]
    most = max(event.samples for event in steps)
    return statistics.median(event.step_s for event in steps[_COLD_STEPS:] if event.samples == most)


def _kill_leaders(options: argparse.Namespace, number: int) -> list[KillCost]:
    """One run in which leaders of three stages are killed at different moments of a step."""
    faults = [
        Fault(
            kind="kill",
            at=At(step=_KILL_EVERY_STEPS * (kill + 1), within=(0.3 * kill + 0.1 * number) % 1),
            target=Target(role="leader", stage=(number + 2 * kill) % STAGES),
        )
        for kill in range(3)
    ]
    run = _run(
        options,
        LAYOUTS["5 stages, a replica each"],
        _KILL_EVERY_STEPS * 4,
        FaultSchedule(version=1, seed=number, faults=tuple(faults)),
    )
    return costs(run.events)


def _bubble(options: argparse.Namespace, micro_batches: int) -> Bubble:
    stages = max(2, min(STAGES, os.cpu_count() or 2))
    layout = LayoutConfig(stages=stages, backups=0, respawn=False)
    run = _run(options, layout, options.steps, micro=options.batch_size // micro_batches)
    steps = [event for event in run.events if isinstance(event, StepFinished)][_COLD_STEPS:]
    most = max(event.samples for event in steps)
    shares = [event.waited_s / stages / event.step_s for event in steps if event.samples == most]
    theory = (stages - 1) / (micro_batches + stages - 1)
    return Bubble(stages=stages, micro_batches=micro_batches, measured=spread(shares), theory=theory)


def _over_plain(rounds: list[dict[str, float]]) -> dict[str, Spread | None]:
    """How many times the step of five stages without backups, round by round."""
    return {name: spread([one[name] / one[PLAIN] for one in rounds]) for name in LAYOUTS}


def _step_table(rounds: list[dict[str, float]]) -> Table:
    table = Table("", "step, ms", "against 5 stages", title="Median step: median over rounds (least to most)")
    for name, ratio in _over_plain(rounds).items():
        change = f"{ratio.median - 1:+.1%} ({ratio.least - 1:+.1%} to {ratio.most - 1:+.1%})" if ratio else "-"
        table.add_row(name, in_ms(spread([one[name] for one in rounds])), "-" if name == PLAIN else change)
    return table


def _bubble_table(bubbles: list[Bubble]) -> Table:
    table = Table("stages", "micro-batches", "waiting, measured", "in theory", title="Bubble")
    for one in bubbles:
        measured = f"{one.measured.median:.1%}" if one.measured else "-"
        table.add_row(str(one.stages), str(one.micro_batches), measured, f"{one.theory:.1%}")
    return table


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", choices=MODELS, default="resnet50")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--bubbles", type=int, nargs="*", default=[2, 4, 8], help="micro-batches of a step")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a run")
    parser.add_argument("--out", type=Path, default=RESULTS / "stages.json")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
