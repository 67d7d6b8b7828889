"""Plays a chain of scenes over Gloo: `python gloo_program.py OUT CHAIN PORT WORKERS WHO`, one process a player.

WHO is a number among those that are started together, or a newcomer's name. The rendezvous is at PORT.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from contract_chains import CHAINS
from contract_process import die, perform
from scenes_newcomers import DIES_AT_ONCE, DIES_WHEN_READY

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Board, Phase, Pulse
from ft_horovod.membership.gloo import GlooMembership
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.place import Place


def main() -> NoReturn:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("chain", choices=sorted(CHAINS))
    parser.add_argument("port", type=int)
    parser.add_argument("workers", type=int)
    parser.add_argument("who")
    arguments = parser.parse_args()
    newcomer = not arguments.who.isdecimal()
    me = WorkerId.parse(arguments.who) if newcomer else WorkerId(socket.gethostname(), int(arguments.who))
    if me.incarnation == DIES_AT_ONCE:
        die()
    membership = _membership(arguments, me, None if newcomer else int(arguments.who))
    perform(membership, arguments.out, arguments.chain, newcomer=newcomer)


def _membership(arguments: argparse.Namespace, me: WorkerId, number: int | None) -> GlooMembership:
    command = [sys.executable, *sys.argv[:-1]]

    def start(newcomers: Sequence[WorkerId]) -> None:
        for newcomer in newcomers:
            subprocess.Popen([*command, str(newcomer)])

    pulse = Pulse(Board(arguments.out / "board"), me.slot, me.incarnation)
    pulse.enter(Phase.REGROUP)
    place = Place(
        me=me, number=number, started=arguments.workers, address="127.0.0.1", interface="lo", secret=b"of this test"
    )
    membership = GlooMembership(place, KeyStore("127.0.0.1", arguments.port, "contract"), pulse, start)
    if me.incarnation == DIES_WHEN_READY:
        threading.Thread(target=_die_when_ready, args=(membership,), daemon=True).start()
    return membership


def _die_when_ready(membership: GlooMembership) -> None:
    while not membership.at_the_door:
        time.sleep(0.01)
    time.sleep(0.1)
    die()


if __name__ == "__main__":
    main()
