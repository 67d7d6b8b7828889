"""Plays a scene in this process: a thread for each worker, over the in-memory membership."""

from __future__ import annotations

import threading
import time
import traceback
from typing import NoReturn

from contract_player import Notes, Player
from contract_scenes import Outcome, Scene
from scenes_newcomers import DIES_AT_ONCE, DIES_WHEN_READY, welcome

from ft_horovod.core.errors import Dismissed
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.memory import Hub, Killed, MemoryMembership

_LIMIT_S = 40.0


class MemoryStage:
    """The players of one scene and what they wrote down."""

    def __init__(self, scene: Scene, workers: int):
        self._scene = scene
        self.notes: dict[str, Notes] = {}
        names = [WorkerId("here", slot) for slot in range(workers)]
        self.hub = Hub(names, start=self._start_newcomer)
        self._threads = [threading.Thread(target=self._play, args=(name,), daemon=True) for name in names]

    def run(self) -> Outcome:
        """Play to the end. Raises AssertionError when somebody does not come to one."""
        for thread in tuple(self._threads):
            thread.start()
        give_up = time.monotonic() + _LIMIT_S
        while stuck := [thread for thread in self._threads if thread.is_alive()]:
            stuck[0].join(0.05)
            assert time.monotonic() < give_up, f"{len(stuck)} players do not end: {self.notes}"
        return Outcome(self.notes)

    def _play(self, me: WorkerId) -> None:
        player = self._player(me)
        try:
            player.perform(0, self._scene.play, player.meet())
            player.membership.close()
        except Killed:
            pass
        except Exception:  # noqa: BLE001  # the notes tell the test
            player.notes.problem = traceback.format_exc()
            self.hub.kill(me)
        self.notes[str(me)] = player.notes

    def _start_newcomer(self, me: WorkerId) -> None:
        thread = threading.Thread(target=self._join, args=(me,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self, me: WorkerId) -> None:
        if me.incarnation == DIES_AT_ONCE:
            return
        if me.incarnation == DIES_WHEN_READY:
            threading.Thread(target=self._kill_when_ready, args=(me,), daemon=True).start()
        player = self._player(me)
        try:
            player.join(player.meet(), welcome)
            player.membership.close()
        except Killed:
            pass
        except Dismissed:
            player.notes.values["dismissed"] = 1.0
        except Exception:  # noqa: BLE001
            player.notes.problem = traceback.format_exc()
            self.hub.kill(me)
        self.notes[str(me)] = player.notes

    def _kill_when_ready(self, me: WorkerId) -> None:
        with self.hub.changed:
            self.hub.changed.wait_for(lambda: me in self.hub.waiting, _LIMIT_S)
            self.hub.kill(me)

    def _player(self, me: WorkerId) -> Player:
        def die() -> NoReturn:
            self.hub.kill(me)
            raise Killed(str(me))

        def die_in(seconds: float) -> None:
            timer = threading.Timer(seconds, self.hub.kill, [me])
            timer.daemon = True
            timer.start()

        return Player(MemoryMembership(self.hub, me), die, die_in, save=lambda notes: None)


def play_in_memory(scene: Scene, workers: int) -> Outcome:
    return MemoryStage(scene, workers).run()
