"""Real runs: `ft-horovod train` as a user starts it, in a process group of its own, ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from real_run import Going, Run, workers_of


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Going]]:
    """Start `ft-horovod train ARGUMENTS --out tmp_path/NAME`; everything it started is ended after the test."""
    runs: list[Going] = []

    def begin(*arguments: str, name: str = "run", resume: bool = False) -> Going:
        folder = tmp_path / name
        place = ["--resume", str(folder)] if resume else ["--out", str(folder)]
        command = [sys.executable, "-m", "ft_horovod.cli", "train", *arguments, *place, "--plain"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        runs.append(Going(folder, process))
        return runs[-1]

    yield begin
    for run in runs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()
        for left in workers_of(run.folder):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        for board in Path("/dev/shm").glob(f"ft-horovod-{run.folder.name}-*"):
            if run.folder.exists() and f"-{run.folder.stat().st_ino:x}-" in board.name:
                board.unlink()


@pytest.fixture
def train(start: Callable[..., Going]) -> Callable[..., Run]:
    """Start a run and wait for its end; afterwards nothing of it is left."""

    def to_the_end(*arguments: str, name: str = "run", resume: bool = False) -> Run:
        run = start(*arguments, name=name, resume=resume).wait()
        assert workers_of(run.folder) == []
        assert list(Path("/dev/shm").glob(f"ft-horovod-{name}-{run.folder.stat().st_ino:x}-*")) == []
        return run

    return to_the_end
