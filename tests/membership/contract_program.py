"""Plays a chain of scenes over MPI: `mpirun ... python contract_program.py OUT CHAIN`, one process a player.

Deaths are real: the victim kills itself with SIGKILL. Whoever survives a scene plays the next one; newcomers stay.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec
import torch
from contract_chains import CHAINS
from contract_player import SHOW_STACK, Notes, Player, notes_path
from mpi4py import MPI
from scenes_newcomers import DIES_AT_ONCE, DIES_WHEN_READY, welcome

from ft_horovod.core.errors import Dismissed
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Board, Phase, Pulse
from ft_horovod.membership.horovod_ring import HorovodRing
from ft_horovod.membership.ulfm import UlfmMembership

_COMES_UP_S = 6.0


def main() -> NoReturn:
    """Never returns: MPI_Finalize can wait for the dead."""
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
    faulthandler.register(SHOW_STACK)
    torch.set_num_threads(1)
    player = _player(arguments.out, arguments.chain, me, newcomer=bool(arguments.newcomers))
    code = 0
    try:
        _play(player, arguments.chain, newcomer=bool(arguments.newcomers))
    except Dismissed:
        player.value("dismissed", 1.0)
    except Exception:  # noqa: BLE001  # the entry point: the notes tell the test
        player.notes.problem = traceback.format_exc()
        player.save(player.notes)
        code = 1
    sys.stdout.flush()
    os._exit(code)


def _play(player: Player, chain: str, *, newcomer: bool) -> None:
    _, scenes = CHAINS[chain]
    met = player.meet()
    begin = 0
    if newcomer:
        player.join(met, welcome)
        begin, met = player.scene + 1, None
    for number in range(begin, len(scenes)):
        player.perform(number, scenes[number].play, met)
        met = None
        if player.left:
            break
    player.membership.close()


def _player(out: Path, chain: str, me: WorkerId, *, newcomer: bool) -> Player:
    pulse = Pulse(Board(out / "board"), me.slot, me.incarnation)
    pulse.enter(Phase.REGROUP)
    marks = out / "marks"
    marks.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__).resolve()), str(out), chain]
    membership = UlfmMembership(me, pulse, HorovodRing(), command=command, marks=marks, newcomer=newcomer)
    if me.incarnation == DIES_WHEN_READY:
        threading.Thread(target=_die_when_ready, args=(me, marks), daemon=True).start()

    def save(notes: Notes) -> None:
        path = notes_path(out, player.scene, me)
        aside = path.with_suffix(".new")
        aside.write_bytes(msgspec.json.encode(notes))
        aside.replace(path)

    player = Player(membership, die, _die_in, save, patience_s=_COMES_UP_S)
    return player


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def _die_in(seconds: float) -> None:
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()


def _die_when_ready(me: WorkerId, marks: Path) -> None:
    while not list(marks.glob(f"*-{me.slot}-{me.incarnation}.ready")):
        time.sleep(0.01)
    time.sleep(0.1)
    die()


if __name__ == "__main__":
    main()
