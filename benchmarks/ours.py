"""Runs of our own trainer for the benchmarks: a configuration, a folder that is thrown away, the trace it left.

This module knows how a run is started and where its trace is; what the events are worth is each benchmark's business.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from common import ROOT
from processes import log_tail, run_limited

from ft_horovod.core.config import DataConfig, LayoutConfig, ModelConfig, ModelName, NormName, RunConfig
from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.schedule import FaultSchedule
from ft_horovod.core.trace import AnyEvent
from ft_horovod.membership.board import Board
from ft_horovod.runfolder import RunFolder
from ft_horovod.status.follow import read_trace
from ft_horovod.status.summary import Summary, summarize

GENTLE_S = 20.0  # the launcher's own limit for ending its workers is shorter


@dataclass(frozen=True, slots=True)
class TrainerRun:
    """What came of a run. `code` is None when it exceeded its limit and was ended."""

    code: int | None
    events: list[AnyEvent]
    summary: Summary
    last_lines: str

    @property
    def problem(self) -> str | None:
        """Why the run is worth nothing; None when it finished."""
        if self.code == 0:
            return None
        if self.code is None:
            return "exceeded its limit and was ended"
        return f"exit {self.code}, outcome {self.summary.outcome or 'unknown'}"

    @property
    def message(self) -> str:
        """What the launcher said of it, for whoever runs the benchmark: it may name paths."""
        return self.summary.message or self.last_lines


def config_for(
    model: ModelName, workers: int, steps: int, *, spares: int = 0, respawn: bool = False, norm: NormName = "batch"
) -> RunConfig:
    """The digits in batches of 64 on the CPU, everything else as a user gets it."""
    return config_of(model, LayoutConfig(workers=workers, spares=spares, respawn=respawn), steps, norm)


def config_of(model: ModelName, layout: LayoutConfig, steps: int, norm: NormName) -> RunConfig:
    """The same with any layout."""
    return RunConfig(
        model=ModelConfig(name=model, norm=norm, device="cpu"),
        data=DataConfig(name="digits", batch_size=64),
        layout=layout,
        steps=steps,
    )


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, and with it what a killed launcher left in shared memory."""
    path = Path(tempfile.mkdtemp(prefix="ft-horovod-bench-"))
    run = path / "run"
    run.mkdir()
    board = board_of(run)
    try:
        yield path
    finally:
        board.unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)


def board_of(run: Path) -> Path:
    """Where the progress board of the run in this (existing) folder lies, or will lie."""
    return Board.path_for(RunFolder(run).name, socket.gethostname())


def prepare(config: RunConfig, folder: Path, faults: FaultSchedule | None = None) -> list[str]:
    """Write the configuration, and the faults if any, into `folder`; returns the command that trains in its `run`."""
    if faults is not None:
        schedule = folder / "faults.yaml"
        schedule.write_text(encode_yaml(faults))
        config = msgspec.structs.replace(config, schedule=str(schedule))
    path = folder / "config.yaml"
    path.write_text(encode_yaml(config))
    return [sys.executable, "-m", "ft_horovod.cli", "train", str(path), "--out", str(folder / "run"), "--plain"]


def trainer_environment() -> dict[str, str]:
    """The checkout's packages, wherever the benchmark is started from."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def train(config: RunConfig, limit_s: float, faults: FaultSchedule | None = None) -> TrainerRun:
    """Train to the end, or for `limit_s` seconds."""
    with scratch_folder() as folder:
        log = folder / "output.log"
        code = run_limited(prepare(config, folder, faults), log, limit_s, env=trainer_environment(), gentle_s=GENTLE_S)
        events = read_trace(folder / "run")
        return TrainerRun(code, events, summarize(events), log_tail(log))
