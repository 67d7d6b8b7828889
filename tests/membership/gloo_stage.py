"""Runs a chain of scenes over Gloo, with a rendezvous of Horovod's own, and leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from contract_chains import CHAINS
from contract_player import SHOW_STACK
from contract_scenes import Outcome
from mpi_stage import end_session, notes_of, processes_of
from rendezvous import rendezvous

from launch.mpirun import worker_environment

PROGRAM = Path(__file__).with_name("gloo_program.py")


def play_over_gloo(chain: str, folder: Path, limit_s: float) -> list[Outcome]:
    """The outcome of each scene of the chain; those that were not reached have no notes."""
    workers, scenes = CHAINS[chain]
    processes: list[subprocess.Popen[bytes]] = []
    with rendezvous() as port:
        try:
            with (folder / "output.txt").open("wb") as output:
                for number in range(workers):
                    command = [sys.executable, str(PROGRAM), str(folder), chain, str(port), str(workers), str(number)]
                    processes.append(_start(command, workers, output))
            _wait(processes, limit_s)
        finally:
            for process in processes:
                end_session(process.pid)
                process.wait()
    return [Outcome(notes_of(folder, number)) for number in range(len(scenes))]


def _start(command: list[str], workers: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own, in which the newcomers it starts are too."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, **worker_environment(workers)},
    )


def _wait(processes: list[subprocess.Popen[bytes]], limit_s: float) -> None:
    """Until all have ended; after the limit they print where they are."""
    give_up = time.monotonic() + limit_s
    while living := [pid for process in processes for pid in processes_of(process.pid)]:
        if time.monotonic() > give_up:
            for pid in living:
                os.kill(pid, SHOW_STACK)
            time.sleep(1)
            return
        time.sleep(0.1)
