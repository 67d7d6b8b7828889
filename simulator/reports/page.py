"""`report`: from a run folder or a simulation's JSON to figures and one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import msgspec
from jinja2 import Environment
from matplotlib.figure import Figure

from ft_horovod.core.commit_interval import daly_interval_s
from ft_horovod.core.errors import ConfigError
from simulator.costs.calibrate import calibrated
from simulator.costs.quantity import value_of
from simulator.experiments.compare import with_policy
from simulator.experiments.montecarlo import Cores, cores
from simulator.experiments.planner import interval_curve, job_mtbf_s, rate_curve
from simulator.experiments.single import Case
from simulator.failures.causes import Cause, Failures
from simulator.files import Simulation, read_simulation, write_text
from simulator.live import LiveRun, read_events, read_live
from simulator.reports import recorded, simulated
from simulator.reports.style import embedded, save
from simulator.scenario import ClusterConfig, JobConfig, Scenario
from simulator.units import S_PER_DAY
from simulator.views.text import money, span


class Picture(msgspec.Struct, frozen=True):
    """A figure on the page: file name, heading, what it shows."""

    name: str
    title: str
    caption: str
    drawn: Figure


class Page(msgspec.Struct, frozen=True):
    title: str
    subtitle: str
    facts: list[tuple[str, str]]
    pictures: list[Picture]


def write_report(source: Path, out: Path | None, runs: int) -> Path:
    """Write the page and its PNG files; returns the page's path. Raises ConfigError for what is neither."""
    if source.is_dir():
        folder, page = out or source / "report", _recorded(source, runs)
    else:
        folder, page = out or source.with_suffix(".report"), _simulated(read_simulation(source), runs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for picture in page.pictures:
            save(picture.drawn, folder / f"{picture.name}.png")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", source=str(folder)) from error
    template = Environment(autoescape=True).from_string(
        resources.files("simulator.reports").joinpath("page.html").read_text()
    )
    images = {picture.name: embedded(folder / f"{picture.name}.png") for picture in page.pictures}
    path = folder / "report.html"
    write_text(path, template.render(page=page, images=images))
    return path


def _simulated(result: Simulation, runs: int) -> Page:
    case = Case(result.scenario, result.schedule, result.source)
    scenario, first = result.scenario, result.studies[0]
    best = max(result.studies, key=lambda study: study.effective.mean)
    pictures = [
        Picture(
            "ledger",
            "Where the time goes",
            "Every second of the simulated runs is in exactly one account.",
            simulated.ledger_figure(result.studies),
        ),
        Picture(
            "recovery",
            "What a failure costs",
            "By policy and by how it was survived; in brackets, how often.",
            simulated.recoveries_figure(result.studies),
        ),
    ]
    if first.sample is not None:
        pictures.insert(
            1,
            Picture(
                "timeline",
                "Failures of one run",
                f"Run 0 of {first.policy}: who was struck when, and how it was survived.",
                simulated.timeline_figure(first.sample),
            ),
        )
    if job_mtbf_s(scenario) < float("inf"):
        with cores() as workers:
            pictures += _curves(case, [study.policy for study in result.studies], best.policy, workers, runs)
    facts = [
        ("goodput", f"{best.goodput.mean:.2%}"),
        ("effective", f"{best.effective.mean:.2%}"),
        ("interruptions", f"{best.interruptions.mean:,.1f}"),
        ("wall time", span(best.wall_s.mean)),
        ("cost", money(None if best.cost is None else best.cost.mean)),
        ("runs", str(best.runs)),
    ]
    cluster = scenario.cluster
    subtitle = (
        f"{cluster.nodes:,} nodes, {cluster.nodes * cluster.gpus_per_node:,} GPUs, {cluster.spares:,} spare; figures "
        f"are those of {best.policy}"
    )
    return Page(scenario.title or result.source, subtitle, facts, pictures)


def _curves(case: Case, policies: Sequence[str], best: str, workers: Cores, runs: int) -> list[Picture]:
    scenario = case.scenario
    mtbf_s = job_mtbf_s(scenario)
    stall_s = value_of(scenario.commit.stall_s)
    rates = rate_curve(case, policies, workers, runs)
    shown = dict.fromkeys((best, "restart_disk"))
    curves = {policy: interval_curve(with_policy(case, policy), workers, runs) for policy in shown}
    daly_s = daly_interval_s(stall_s, mtbf_s) if stall_s else None
    return [
        Picture(
            "rate",
            "Effective time against the failure rate",
            "Mean and 95 % interval, all rates scaled together.",
            simulated.rate_figure(rates, S_PER_DAY / mtbf_s),
        ),
        Picture(
            "interval",
            "How often to commit",
            "Effective time against the commit interval, with its 95 % interval.",
            simulated.interval_figure(curves, daly_s),
        ),
    ]


def _recorded(folder: Path, runs: int) -> Page:
    events, run = read_events(folder), read_live(folder)
    pictures = [
        Picture(
            "timeline",
            "Workers and failures",
            "Who lived when and as what; crosses mark faults.",
            recorded.workers_figure(events),
        ),
        Picture("ledger", "Where the time went", "From the start of training to its end.", recorded.time_figure(run)),
        Picture(
            "recovery",
            "Recoveries, phase by phase",
            "From the last sign of life to the next finished step.",
            recorded.phases_figure(run),
        ),
        Picture("steps", "Steps", "Each step's duration; in amber, what failures cost.", recorded.steps_figure(events)),
    ]
    if run.failures:
        with cores() as workers:
            pictures += _at_other_rates(run, workers, runs)
    subtitle = f"{run.workers} workers, {run.spares} spare, {run.steps:,} steps"
    return Page(run.name, subtitle, recorded.facts(events, run), pictures)


def _at_other_rates(run: LiveRun, workers: Cores, runs: int) -> list[Picture]:
    """The same job for two hours at other failure rates, with the cost model of this run."""
    costs = calibrated([run])
    per_node_h = run.workers * run.wall_s / len(run.failures) / 3600
    scenario = Scenario(
        cluster=ClusterConfig(nodes=run.workers, spares=run.spares, gpus_per_node=1),
        job=JobConfig(wall_h=2.0),
        failures=Failures(causes=(Cause(name="kill", mtbf_h=per_node_h, host_lost=False),)),
        costs=costs.as_costs(),
        policy="toolkit",
    )
    rates = rate_curve(Case(scenario), ("toolkit", "elastic_horovod", "torchrun"), workers, runs)
    per_day = S_PER_DAY / (run.wall_s / len(run.failures))
    return [
        Picture(
            "rate",
            "The same job at other failure rates",
            "Simulated with the cost model of this run; what other policies cost is assumed.",
            simulated.rate_figure(rates, per_day),
        ),
    ]
