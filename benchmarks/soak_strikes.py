"""Who is struck when: signals from outside to the workers of a run, at moments they cannot know of.

The living are found on the board that the workers write, their group in the trace. This module never strikes so many
that the model's state would be lost, and knows nothing of what comes of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
from soak_verdict import Strike

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.trace import AnyEvent, StepFinished, TrainingFinished, TrainingStarted, ViewAgreed
from ft_horovod.membership.board import ROWS, Board, Phase, Row, lives

_FLOOR = 2  # members that are left alone
_BURST_S = 0.06  # a second kill of a burst follows within this time: during the recovery from the first


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How the soak strikes. Shares are of 1."""

    gap_s: float = 1.0  # mean of the exponential time between strikes
    hang_share: float = 0.1  # SIGSTOP instead of SIGKILL
    burst_share: float = 1 / 3  # followed at once by another kill
    massacre_share: float = 0.03  # everybody but one member at once


class _Target(NamedTuple):
    worker: WorkerId
    row: Row


class Striker:
    """Strikes one run, `wanted` times or until nobody may be struck any more."""

    def __init__(self, board: Path, rng: random.Random, habits: Habits, wanted: int):
        self._path, self._rng, self._habits, self._wanted = board, rng, habits, wanted
        self._host = socket.gethostname()
        self._board: Board | None = None
        self._layout: Layout | None = None
        self._finished = False
        self._next_at: float | None = None
        self.strikes: list[Strike] = []
        self.step = 0

    def hear(self, events: Iterable[AnyEvent]) -> None:
        """Take in what the workers have told."""
        for event in events:
            match event:
                case TrainingStarted():
                    self._next_at = time.monotonic() + self._gap_s()
                case ViewAgreed():
                    self._layout = event.layout
                case StepFinished():
                    self.step = event.step
                case TrainingFinished():
                    self._finished = True
                case _:
                    pass

    def act(self) -> None:
        """Strike if it is time to."""
        now = time.monotonic()
        if self._finished or self._next_at is None or now < self._next_at or len(self.strikes) >= self._wanted:
            return
        if self._rng.random() < self._habits.massacre_share:
            self._massacre()
        elif self._rng.random() < self._habits.hang_share:
            self._strike("hang", burst=False)
        else:
            self._strike("kill", burst=False)
        if self._rng.random() < self._habits.burst_share:
            time.sleep(self._rng.uniform(0.0, _BURST_S))
            self._strike("kill", burst=True)
        self._next_at = time.monotonic() + self._gap_s()

    def living(self) -> list[_Target]:
        """All workers that are there and were not struck, newcomers included."""
        if self._board is None and self._path.exists():
            self._board = Board(self._path)
        if self._board is None:
            return []
        struck = {strike.worker for strike in self.strikes}
        rows = ((slot, self._board.read(slot)) for slot in range(ROWS))
        found = (_Target(WorkerId(self._host, slot, row.incarnation), row) for slot, row in rows if row.pid)
        return [t for t in found if str(t.worker) not in struck and t.row.phase != Phase.GONE and lives(t.row)]

    def _gap_s(self) -> float:
        return self._rng.expovariate(1 / self._habits.gap_s)

    def _members(self) -> list[_Target]:
        """Living members of the last group that was told of: they hold the model's state."""
        assert self._layout is not None
        return [target for target in self.living() if target.worker in self._layout.members]

    def _strike(self, kind: str, *, burst: bool) -> None:
        assert self._layout is not None
        targets = self.living()
        members = [target for target in targets if target.worker in self._layout.members]
        if len(members) <= _FLOOR:
            targets = [target for target in targets if target not in members]
        if kind == "hang":  # one that loads its libraries is not watched, and nobody waits for it
            targets = [target for target in targets if target.worker in self._layout.workers]
        if targets:
            self._hit(self._rng.choice(targets), kind, burst=burst)

    def _massacre(self) -> None:
        """All members but one, in random order, as fast as we can."""
        members = self._members()
        self._rng.shuffle(members)
        for target in members[1:]:
            self._hit(target, "kill", burst=True)

    def _hit(self, target: _Target, kind: str, *, burst: bool) -> None:
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(target.row.pid)  # from here on the number cannot come to mean another process
            try:
                if lives(target.row):
                    now_s = time.time()
                    signal.pidfd_send_signal(fd, signal.SIGSTOP if kind == "hang" else signal.SIGKILL)
                    self.strikes.append(
                        Strike(
                            worker=str(target.worker),
                            kind="hang" if kind == "hang" else "kill",
                            time_s=now_s,
                            phase=Phase(target.row.phase).name.lower(),
                            burst=burst,
                        )
                    )
            finally:
                os.close(fd)
