"""Endurance test: hundreds of workers killed from outside at random moments, and every run must end well.

    .venv/bin/python benchmarks/soak.py --kills 200

Many runs one after the other, each with a random number of workers, spares and newcomers. A third of the kills are
followed by another within 60 ms, while the group recovers; some strike everybody but one, and some workers are
stopped instead of killed. The exit code is 1 when a run hung, used a sample not exactly as planned, or ended with
weights that differ; with stages, also when it gave up without naming the stage that was lost. Runs with anything
remarkable leave trace, logs and stacks under results/hangs.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from common import RESULTS, Spread, console, in_ms, machine_facts, spread, write_result
from processes import take_charge
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from soak_run import Limits, Plan, SoakRun, soak_once
from soak_strikes import Habits, Striker

from ft_horovod.core.config import ModelName

_FIRST_GUESS_STEP_S = 0.03
_STRIKES = (4, 12)  # of one run
_EXTRA_S = 3.0  # a run is planned to go on for so long after its last strike
_TELL_S = 0.5


class Progress:
    """The line that says how it stands: live on a terminal, once a run elsewhere."""

    def __init__(self, out: Console):
        self._out = out
        self._next_at = 0.0
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        if not self._out.is_terminal:
            yield
            return
        with Live(Text("starting"), console=self._out, auto_refresh=False, transient=True) as self._live:
            yield

    def tell(self, runs: Sequence[SoakRun], plan: Plan, striker: Striker) -> None:
        """Called all the time; draws twice a second."""
        if self._live is None or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + _TELL_S
        now = f"run {plan.number} ({_size(plan)}): step {striker.step} of {plan.steps}, {len(striker.strikes)} strikes"
        self._live.update(Text(f"{now} | {_standing(runs)}"), refresh=True)

    def done(self, run: SoakRun) -> None:
        """A run is over."""
        verdict = run.verdict
        bad = [f"HUNG: {run.hung}"] if run.hung else []
        bad += [f"lost too: {', '.join(verdict.extra_lost)}"] if verdict.extra_lost else []
        bad += [f"killed as stuck: {', '.join(verdict.false_hang_kills)}"] if verdict.false_hang_kills else []
        bad += list(verdict.failed) + ([verdict.samples_wrong] if verdict.samples_wrong else [])
        bad += ["WEIGHTS DIFFER"] if verdict.weights_agree is False else []
        self._out.print(
            f"run {run.plan.number} ({_size(run.plan)}): {verdict.outcome}, {verdict.steps} steps, "
            f"{verdict.kills} kills, {verdict.hangs} hangs, {run.wall_s:.0f} s" + "".join(f"; {one}" for one in bad),
            style="red" if bad else None,
            markup=False,
        )


def main() -> int:
    """Soak, print, write; returns the exit code."""
    options = _parse()
    take_charge()
    facts, out = machine_facts(), console()
    progress = Progress(out)
    runs: list[SoakRun] = []
    began = time.monotonic()
    interrupted = False
    try:
        with progress.shown():
            while not _enough(runs, options, time.monotonic() - began):
                runs.append(_next_run(runs, options, progress))
                progress.done(runs[-1])
                write_result(options.out, facts, vars(options), totals=by_kind(runs), runs=runs)
    except KeyboardInterrupt:
        interrupted = True
        out.print("interrupted: the run in hand does not count", style="yellow")
    out.print(_table(runs))
    if interrupted:
        return 130
    return int(any(_is_bad(run) for run in runs))


def _next_run(runs: list[SoakRun], options: argparse.Namespace, progress: Progress) -> SoakRun:
    plan = draw_plan(options, len(runs), runs[-1].step_s if runs else None)
    limits = Limits(run_s=options.limit, silence_s=options.silence)
    habits = Habits(gap_s=options.gap, hang_share=options.hang_share)
    return soak_once(plan, habits, limits, lambda striker: progress.tell(runs, plan, striker))


def draw_plan(options: argparse.Namespace, number: int, step_s: float | None) -> Plan:
    """The run of this number; only its length depends on how fast the machine is (`step_s`, of the run before)."""
    seed = options.seed * 1_000_003 + number
    rng = random.Random(seed)
    workers, spares = rng.randint(min(options.workers), max(options.workers)), rng.randint(1, 2)
    respawn = rng.random() < 1 / 2 if options.respawn is None else options.respawn
    strikes = rng.randint(*_STRIKES)
    if not respawn:
        strikes = min(strikes, workers + spares - 2)
    stages = rng.randint(2, min(options.stages, workers // 2)) if options.stages > 1 else 1
    lasts_s = strikes * options.gap + _EXTRA_S
    return Plan(
        number=number,
        seed=seed,
        model=cast(ModelName, options.model),
        workers=workers,
        spares=spares,
        norm=rng.choice(("batch", "group")),
        respawn=respawn,
        stages=stages,
        role=rng.choice(("replica", "standby")) if stages > 1 else "replica",
        strikes=strikes,
        steps=max(40, min(5000, round(lasts_s / (step_s or _FIRST_GUESS_STEP_S)))),
    )


def by_kind(runs: Sequence[SoakRun]) -> dict[str, dict[str, object]]:
    """The sums over all runs, and over those with and without newcomers."""
    kinds = {"respawn": [run for run in runs if run.plan.respawn]}
    kinds["no respawn"] = [run for run in runs if not run.plan.respawn]
    return {"all": totals(runs)} | {kind: totals(some) for kind, some in kinds.items() if some}


def totals(runs: Sequence[SoakRun]) -> dict[str, object]:
    """The sums over these runs."""
    verdicts = [run.verdict for run in runs]
    return {
        "runs": len(runs),
        "outcomes": Counter(verdict.outcome or "none" for verdict in verdicts),
        "kills": sum(verdict.kills for verdict in verdicts),
        "hangs": sum(verdict.hangs for verdict in verdicts),
        "runs_hung": sum(run.hung is not None for run in runs),
        "extra_lost": sum(len(verdict.extra_lost) for verdict in verdicts),
        "failed": sum(len(verdict.failed) for verdict in verdicts),
        "newcomers_fenced": sum(verdict.newcomers_fenced for verdict in verdicts),
        "false_hang_kills": sum(len(verdict.false_hang_kills) for verdict in verdicts),
        "late_deaths": sum(verdict.late_deaths for verdict in verdicts),
        "samples_wrong": sum(verdict.samples_wrong is not None for verdict in verdicts),
        "weights_differ": sum(verdict.weights_agree is False for verdict in verdicts),
        "recovery_s": spread([seconds for verdict in verdicts for seconds in verdict.recoveries_s]),
    }


def _is_bad(run: SoakRun) -> bool:
    verdict = run.verdict
    lost_without_saying = verdict.outcome != "finished" and run.plan.stages > 1 and not verdict.names_stage
    wrong = verdict.samples_wrong is not None or verdict.weights_agree is False
    return run.hung is not None or wrong or lost_without_saying


def _enough(runs: Sequence[SoakRun], options: argparse.Namespace, spent_s: float) -> bool:
    if options.minutes is not None:
        return spent_s >= 60 * options.minutes
    return sum(run.verdict.kills for run in runs) >= options.kills


def _size(plan: Plan) -> str:
    stages = f", {plan.stages} stages, {plan.role}" if plan.stages > 1 else ""
    return f"{plan.workers}+{plan.spares}{stages}, {plan.norm} norm, {'respawn' if plan.respawn else 'no respawn'}"


def _standing(runs: Sequence[SoakRun]) -> str:
    names = {"kills": "kills", "hangs": "hangs", "runs_hung": "runs hung", "extra_lost": "lost too"}
    names |= {"samples_wrong": "samples wrong", "weights_differ": "weights differ"}
    sums = totals(runs)
    return ", ".join(f"{sums[key]} {name}" for key, name in names.items())


def _table(runs: Sequence[SoakRun]) -> Table:
    sums = by_kind(runs)
    table = Table("", *sums, title="Soak")
    for name in sums["all"]:
        table.add_row(name.removesuffix("_s").replace("_", " "), *(_cell(some[name]) for some in sums.values()))
    return table


def _cell(value: object) -> str:
    match value:
        case Counter():
            return ", ".join(f"{count} {outcome}" for outcome, count in value.most_common())
        case Spread():
            return in_ms(value) + " ms"
        case _:
            return "-" if value is None else str(value)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200, help="go on until so many workers were killed")
    parser.add_argument("--minutes", type=float, help="go on for so long, whatever --kills says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs=2, default=[6, 10], metavar=("LEAST", "MOST"))
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--stages", type=int, default=1, help="cut the model into 2 to so many stages, drawn each run")
    parser.add_argument("--respawn", action=argparse.BooleanOptionalAction, help="drawn for each run when not given")
    parser.add_argument("--gap", type=float, default=1.0, help="mean seconds between strikes")
    parser.add_argument("--hang-share", type=float, default=0.1, help="of the strikes: stopped instead of killed")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a run; one that takes longer hangs")
    parser.add_argument("--silence", type=float, default=75.0, help="so long without a new event is a hang, too")
    parser.add_argument("--out", type=Path, default=RESULTS / "soak.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
