"""Runs a chain of scenes over Gloo, with a rendezvous of Horovod's own, and leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from contract_chains import CHAINS
from contract_player import SHOW_STACK
from contract_scenes import Outcome
from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer
from mpi_stage import end_session, notes_of, processes_of

from launch.mpirun import worker_environment

PROGRAM = Path(__file__).with_name("gloo_program.py")


def play_over_gloo(chain: str, folder: Path, limit_s: float) -> list[Outcome]:
    """The outcome of each scene of the chain; those that were not reached have no notes."""
    workers, scenes = CHAINS[chain]
    rendezvous = RendezvousHTTPServer(("127.0.0.1", 0), RendezvousHandler, 0)
    threading.Thread(target=rendezvous.serve_forever, daemon=True).start()
    port = rendezvous.server_address[1]
    processes = []
    try:
        with (folder / "output.txt").open("wb") as output:
            for number in range(workers):
                command = [sys.executable, str(PROGRAM), str(folder), chain, str(port), str(workers), str(number)]
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, **worker_environment(workers)},
                )
                processes.append(process)
        give_up = time.monotonic() + limit_s
        while living := [pid for process in processes for pid in processes_of(process.pid)]:
            if time.monotonic() > give_up:  # the notes tell how far it came, the output where everybody is
                for pid in living:
                    os.kill(pid, SHOW_STACK)
                time.sleep(1)
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            end_session(process.pid)
            process.wait()
        rendezvous.shutdown()
        rendezvous.server_close()
    return [Outcome(notes_of(folder, number)) for number in range(len(scenes))]
