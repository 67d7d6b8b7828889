"""A player that is a process: it plays a chain of scenes, writes its notes into a folder, and dies for real.

Whoever survives a scene plays the next one; newcomers stay. Which backend it plays on is not known here.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

import msgspec
import torch
from contract_chains import CHAINS
from contract_player import SHOW_STACK, Notes, Player, notes_path
from scenes_newcomers import welcome

from ft_horovod.core.errors import Dismissed
from ft_horovod.membership.protocol import Membership

COMES_UP_S = 6.0


def perform(membership: Membership, out: Path, chain: str, *, newcomer: bool) -> NoReturn:
    """Play, and end this process. Not by returning: after failures libraries can wait for the dead."""
    faulthandler.register(SHOW_STACK)
    torch.set_num_threads(1)

    def save(notes: Notes) -> None:
        path = notes_path(out, player.scene, membership.me)
        aside = path.with_suffix(".new")
        aside.write_bytes(msgspec.json.encode(notes))
        aside.replace(path)

    player = Player(membership, die, _die_in, save, patience_s=COMES_UP_S)
    code = 0
    try:
        _play(player, chain, newcomer=newcomer)
    except Dismissed:
        pass  # a newcomer that was not let in knows no scene whose notes these would be
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


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive after SIGKILL")


def _die_in(seconds: float) -> None:
    timer = threading.Timer(seconds, die)
    timer.daemon = True
    timer.start()
