"""The simulator's commands, which `ft-horovod` registers: parsing only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_WIDTH_WITHOUT_TERMINAL = 120
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("config", type=_FILE)
@click.option("--policy", "policies", multiple=True, help="Another policy than the file's; several are compared.")
@click.option("--compare", "everyone", is_flag=True, help="Compare all policies.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the failures.")
@click.option("--replicas", type=click.IntRange(2), help="Exactly so many runs; else until the interval is narrow.")
@click.option("--cores", "count", type=click.IntRange(1), help="Processes; all cores when not given.")
@click.option("--json", "out", type=_FILE, metavar="OUT", help="Write the result, for `report`.")
def simulate(config: Path, policies: tuple[str, ...], everyone: bool, out: Path | None, **numbers: int | None) -> None:
    """Simulate what failures cost the job in CONFIG (YAML)."""
    from simulator.experiments.compare import compare, must_progress
    from simulator.experiments.montecarlo import cores
    from simulator.files import Simulation, at_key, load_case, write_simulation
    from simulator.policies.registry import names
    from simulator.views.study_view import comparison, head, legend, study_view

    case = load_case(config, seed=numbers["seed"])
    chosen = names() if everyone else policies or (case.scenario.policy,)
    with cores(numbers["count"]) as workers, _progress() as progress:
        task = progress.add_task("", total=None)

        def told(name: str, done: int, most: int) -> None:
            progress.update(task, description=name, completed=done, total=most)

        studies = tuple(compare(case, chosen, workers, runs=numbers["replicas"], told=told))
    if len(studies) == 1:
        must_progress(studies[0], at_key(config, "failures"))
    if out is not None:
        write_simulation(
            out, Simulation(source=config.name, scenario=case.scenario, schedule=case.schedule, studies=studies)
        )
    console = _console()
    console.print(head(case.scenario))
    console.print()
    if len(studies) == 1:
        console.print(study_view(studies[0], case.scenario, console.width))
    else:
        console.print(comparison(studies, console.width))
        console.print(legend())


@click.command()
@click.argument("config", type=_FILE)
@click.option("--budget", type=click.FloatRange(0, min_open=True), help="Most it may cost, in the price's currency.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the failures.")
@click.option("--replicas", type=click.IntRange(2), default=24, show_default=True, help="Runs for each point.")
@click.option("--out", type=_FILE, help="Write the scenario with the advice in it (YAML).")
def plan(config: Path, budget: float | None, seed: int | None, replicas: int, out: Path | None) -> None:
    """Advise on policy, commit interval, spares and copies for the job in CONFIG (YAML)."""
    from ft_horovod.core.decode import encode_yaml
    from simulator.experiments.montecarlo import cores
    from simulator.experiments.planner import make_plan
    from simulator.files import load_case, write_text
    from simulator.views.plan_view import plan_view
    from simulator.views.study_view import head

    case = load_case(config, seed=seed)
    with cores() as workers, _progress() as progress:
        task = progress.add_task("", total=None)
        advice = make_plan(
            case, workers, runs=replicas, budget=budget, told=lambda what: progress.update(task, description=what)
        )
    console = _console()
    console.print(head(case.scenario))
    console.print()
    console.print(plan_view(advice, console.width))
    if out is not None:
        write_text(out, encode_yaml(advice.scenario))


@click.group()
def schedule() -> None:
    """Draw, import and show fault schedules, for simulations and live runs."""


@schedule.command("generate")
@click.argument("config", type=_FILE)
@click.option("--out", type=_FILE, required=True, help="The fault schedule (YAML).")
@click.option("--hours", type=click.FloatRange(0, min_open=True), required=True, help="Length.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--time-factor", type=click.FloatRange(0, min_open=True), default=1.0, help="Times are multiplied by this."
)
def generate_schedule(config: Path, out: Path, hours: float, seed: int, time_factor: float) -> None:
    """Draw failures at the rates in CONFIG (YAML)."""
    from simulator.files import load_case
    from simulator.schedules.generate import drawn_schedule
    from simulator.schedules.write import write_schedule

    case = load_case(config, seed=seed)
    drawn = drawn_schedule(case.scenario, hours=hours, time_factor=time_factor)
    write_schedule(out, drawn, f"Drawn from {config.name}, seed {seed}, {hours:g} h.")
    click.echo(f"{out}: {len(drawn.faults)} faults")


@schedule.command("convert")
@click.argument("trace", type=_FILE)
@click.option("--format", "kind", help="auto, add-remove, parcae, infinitehbd, counts or intervals.", default="auto")
@click.option("--out", type=_FILE, required=True, help="The fault schedule (YAML).")
@click.option(
    "--time-factor", type=click.FloatRange(0, min_open=True), default=1.0, help="Times are multiplied by this."
)
@click.option("--sort", is_flag=True, help="Put rows in order of time first.")
def convert_schedule(trace: Path, kind: str, out: Path, time_factor: float, sort: bool) -> None:
    """Turn a TRACE of others into a fault schedule."""
    from simulator.schedules.read import read_trace
    from simulator.schedules.write import as_schedule, write_schedule

    changes = read_trace(trace, kind, sort=sort)
    converted, nodes = as_schedule(changes, time_factor)
    write_schedule(out, converted, f"From {trace.name}; for {nodes} nodes.")
    click.echo(f"{out}: {len(converted.faults)} faults, for {nodes} nodes")


@schedule.command("show")
@click.argument("trace", type=_FILE)
@click.option("--format", "kind", help="As for convert; a fault schedule needs none.", default="auto")
@click.option("--sort", is_flag=True, help="Put rows in order of time first.")
def show_schedule(trace: Path, kind: str, sort: bool) -> None:
    """Draw a fault schedule or a TRACE of others in the terminal."""
    from simulator.schedules.read import read_any
    from simulator.views.schedule_view import schedule_view

    console = _console()
    console.print(schedule_view(read_any(trace, kind, sort=sort), trace.name, console.width))


@click.command()
@click.argument("source", type=_FILE, metavar="RUN_OR_SIM")
@click.option("--out", type=_FILE, help="Folder; RUN/report or SIM.report when not given.")
@click.option(
    "--replicas", type=click.IntRange(2), default=12, show_default=True, help="Runs for each point of a curve."
)
def report(source: Path, out: Path | None, replicas: int) -> None:
    """Write an HTML page and figures of a run folder, or of what `simulate --json` wrote."""
    from simulator.reports.page import write_report

    page = write_report(source, out, replicas)
    click.echo(f"{page}")


@click.command()
@click.argument("runs", type=_FILE, nargs=-1, required=True)
@click.option("--out", type=_FILE, help="Write the cost model (YAML); else it is printed.")
def calibrate(runs: tuple[Path, ...], out: Path | None) -> None:
    """Fit the cost model to the live runs in the folders RUNS."""
    from ft_horovod.core.decode import encode_yaml
    from simulator.costs.calibrate import calibrated
    from simulator.files import write_text
    from simulator.live import read_live

    text = encode_yaml(msgspec.to_builtins(calibrated([read_live(run) for run in runs])))
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)
        click.echo(f"{out}: fitted to {len(runs)} runs")


def show_prediction(run: Path, costs: Path | None) -> None:
    """Print what the simulator predicts for a recorded live run, against what was measured: part of `replay`."""
    from simulator.costs.calibrate import LiveCosts, calibrated
    from simulator.experiments.predict import predict
    from simulator.files import read_yaml
    from simulator.live import read_live
    from simulator.views.prediction_view import prediction_view

    live = read_live(run)
    model = calibrated([live]) if costs is None else read_yaml(costs, LiveCosts)
    console = _console()
    console.print(prediction_view(predict(live, model), own=costs is None, width=console.width))


COMMANDS: tuple[click.Command, ...] = (simulate, plan, schedule, report, calibrate)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(force_terminal=False, width=_WIDTH_WITHOUT_TERMINAL)


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on the error stream while it is a terminal, gone when the work is done."""
    columns = (TextColumn(" {task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        yield progress
