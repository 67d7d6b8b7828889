"""How fast the simulator is: `make bench-sim`. JSON under benchmarks/results, and a table.

Three cases, each in a process of its own so that memory is that case's alone: AIReSim's size once, Llama 3 with 1,000
runs on all cores, 100,000 nodes once. Besides, every published figure is simulated and checked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from common import RESULTS, ROOT, console, machine_facts
from rich.table import Table

from simulator.experiments import oobleck
from simulator.experiments.montecarlo import cores, study
from simulator.experiments.published import (
    Check,
    daly_checks,
    ettr_checks,
    gemini_checks,
    llama3_checks,
    mttf_checks,
)
from simulator.experiments.single import run_once
from simulator.files import load_case

CONFIGS = ROOT / "configs" / "sim"
TRIES = 15
LLAMA_RUNS = 1000


class Timing(msgspec.Struct, frozen=True):
    """One case: best and median seconds of its tries, events handled, peak memory of the process that ran it."""

    case: str
    runs: int
    best_s: float
    median_s: float
    events: int
    failures: float
    memory_bytes: int
    target: str

    @property
    def events_per_s(self) -> float:
        return self.events / self.best_s


def once(name: str, target: str) -> Timing:
    """One run, several times; the first try, which warms caches, counts like the others."""
    case = load_case(CONFIGS / name)
    times = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        outcome = run_once(case, 0)
        times.append(time.perf_counter() - begun)
    return Timing(
        name, 1, min(times), sorted(times)[TRIES // 2], outcome.events, outcome.interruptions, _peak(), target
    )


def llama3() -> Timing:
    """1,000 runs on all cores, starting the processes included."""
    case = load_case(CONFIGS / "llama3-16k.yaml")
    begun = time.perf_counter()
    with cores() as workers:
        result = study(case, workers, runs=LLAMA_RUNS)
    took = time.perf_counter() - begun
    memory = _peak() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Timing("llama3-16k.yaml", LLAMA_RUNS, took, took, result.events, result.interruptions.mean, memory, "< 20 s")


def in_own_process(work: Callable[..., Timing], *arguments: str) -> Timing:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        # Not a daemon's child: the Monte Carlo starts processes of its own.
        return pool.apply(work, arguments) if work is once else work(*arguments)


def published() -> list[Check]:
    with cores() as workers:
        llama = load_case(CONFIGS / "llama3-16k.yaml")
        checks = [*daly_checks(workers), *mttf_checks(workers), *llama3_checks(llama, workers), *ettr_checks(workers)]
    return [*checks, *gemini_checks(), *oobleck_checks()]


def oobleck_checks() -> list[Check]:
    found = []
    for name, model in oobleck.models().items():
        averages = model.published_average_samples_per_s
        for policy, row in (("varuna", averages.varuna), ("oobleck", averages.oobleck)):
            for trace, target in zip(averages.mtbf, row, strict=True):
                got = oobleck.average_samples_per_s(model, policy, trace)
                error = got / target - 1
                found.append(
                    Check(
                        f"Oobleck's artifact: {name}, {policy}, {trace}",
                        "SOSP 2023 artifact",
                        f"{target}",
                        "2 %",
                        f"{got:.1f} ({error:+.2%})",
                        abs(error) <= 0.02,
                    )
                )
    return found


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "simulation.json")
    args = parser.parse_args()
    facts = machine_facts()
    timings = [
        in_own_process(once, "airesim-4k.yaml", "< 0.1 s"),
        in_own_process(once, "nodes-100k.yaml", "< 5 s, < 1 GB"),
        llama3(),
    ]
    checks = published()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [{**msgspec.to_builtins(timing), "events_per_s": timing.events_per_s} for timing in timings]
    result = {"machine": facts, "timings": rows, "checks": msgspec.to_builtins(checks)}
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    show(timings, checks)


def show(timings: list[Timing], checks: list[Check]) -> None:
    speed = Table(box=None, header_style="bold")
    for title in ("case", "runs", "seconds (best, median)", "target", "failures a run", "events/s", "memory"):
        speed.add_column(title)
    for one in timings:
        speed.add_row(
            one.case,
            str(one.runs),
            f"{one.best_s:.3f}, {one.median_s:.3f}",
            one.target,
            f"{one.failures:,.0f}",
            f"{one.events_per_s:,.0f}",
            f"{one.memory_bytes / 1e6:,.0f} MB",
        )
    figures = Table(box=None, header_style="bold")
    for title in ("figure", "source", "target", "threshold", "got", ""):
        figures.add_column(title)
    for check in checks:
        mark = "[green]holds[/]" if check.holds else "[red]missed[/]"
        figures.add_row(check.name, check.source, check.target, check.threshold, check.got, mark)
    out = console()
    out.print(speed)
    out.print()
    out.print(figures)


if __name__ == "__main__":
    main()
