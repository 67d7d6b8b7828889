"""Plays a chain of scenes over MPI: `mpirun ... python contract_program.py OUT CHAIN`, one process a player."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from contract_chains import CHAINS
from contract_process import die, perform
from mpi4py import MPI
from scenes_newcomers import DIES_AT_ONCE, DIES_WHEN_READY

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Board, Phase, Pulse
from ft_horovod.membership.horovod_ring import HorovodRing
from ft_horovod.membership.ulfm import UlfmMembership


def main() -> NoReturn:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("chain", choices=sorted(CHAINS))
    parser.add_argument("--newcomers")
    arguments = parser.parse_args()
    if arguments.newcomers:
        me = WorkerId.parse(arguments.newcomers.split(",")[MPI.COMM_WORLD.rank])
    else:
        me = WorkerId(socket.gethostname(), MPI.COMM_WORLD.rank)
    if me.incarnation == DIES_AT_ONCE:
        die()
    newcomer = bool(arguments.newcomers)
    perform(
        _membership(arguments.out, arguments.chain, me, newcomer=newcomer),
        arguments.out,
        arguments.chain,
        newcomer=newcomer,
    )


def _membership(out: Path, chain: str, me: WorkerId, *, newcomer: bool) -> UlfmMembership:
    pulse = Pulse(Board(out / "board"), me.slot, me.incarnation)
    pulse.enter(Phase.REGROUP)
    marks = out / "marks"
    marks.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), str(out), chain]
    if me.incarnation == DIES_WHEN_READY:
        threading.Thread(target=_die_when_ready, args=(me, marks), daemon=True).start()
    return UlfmMembership(me, pulse, HorovodRing(), command=command, marks=marks, newcomer=newcomer)


def _die_when_ready(me: WorkerId, marks: Path) -> None:
    while not list(marks.glob(f"*-{me.slot}-{me.incarnation}.ready")):
        time.sleep(0.01)
    time.sleep(0.1)
    die()


if __name__ == "__main__":
    main()
