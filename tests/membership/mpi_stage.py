"""Runs a chain of scenes under mpirun, with a hard limit, and leaves no process behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from contract_chains import CHAINS
from contract_player import SHOW_STACK, Notes
from contract_scenes import Outcome

from ft_horovod.core.config import LauncherConfig
from launch.mpirun import mpirun_command, worker_environment

PROGRAM = Path(__file__).with_name("contract_program.py")


def play_over_mpi(chain: str, folder: Path, limit_s: float) -> list[Outcome]:
    """The outcome of each scene of the chain; those that were not reached have no notes."""
    workers, scenes = CHAINS[chain]
    command = mpirun_command(LauncherConfig(), workers, [sys.executable, str(PROGRAM), str(folder), chain])
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **worker_environment(workers)},
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:  # the notes tell how far it came, the output where everybody is
            for pid in set(processes_of(process.pid)) - {process.pid}:
                os.kill(pid, SHOW_STACK)
            time.sleep(1)
        finally:
            end_session(process.pid)
            process.wait()
    return [Outcome(_notes(folder, number)) for number in range(len(scenes))]


def end_session(session: int) -> None:
    """End, one by one, every process of a session: mpirun's workers are in groups of their own."""
    give_up = time.monotonic() + 10
    while (pids := list(processes_of(session))) and time.monotonic() < give_up:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def processes_of(session: int) -> Iterator[int]:
    """Living processes of a session; not those that ended and wait for their parent to notice."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                state, _, _, found, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(found) == session and state not in "ZX":
                    yield int(entry.name)


def _notes(folder: Path, scene: int) -> dict[str, Notes]:
    found = [msgspec.json.decode(path.read_bytes(), type=Notes) for path in folder.glob(f"scene-{scene}-*.json")]
    return {notes.worker: notes for notes in found}
