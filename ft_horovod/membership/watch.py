"""The hang watch: a stuck worker is killed by its neighbour on the host, so that a hang becomes a plain death.

Stuck means that a worker's progress stands still, not that it is slow to answer: the limit is a multiple of the
longest pause between two of its own beats lately, never below a floor. Time does not count in which the worker waited
for a processor or a disk (a busy host is no hang), nor in which the watcher itself was not awake (a paused machine is
none either). A stopped process is stuck for certain; one that is not gets the benefit of the doubt for longer. This
module decides (`judge`) and acts (`Watch`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ft_horovod.core.config import WatchConfig
from ft_horovod.membership.board import ROWS, Board, Phase, Row, lives, starved_s, thread_states

_TICK_S = 0.05
_COUNT_S = 1.0  # between looks for new slots
_LONGEST_TICK_S = 0.5  # a longer one means that the machine stood still: it counts as this much
_LEAST_S = 0.001  # what a silent tick counts at the least: even on the busiest host a hang is found in the end
_WARM_STEPS = 2  # a worker's first steps teach what a normal pause is
_WARM_LIMIT_S = 60.0
_REGROUP_LIMIT_S = 10.0
_DOUBT = 3.0  # times the limit, for a process that is not stopped: it may be at work inside the kernel


class Verdict(NamedTuple):
    """A stuck worker: `slot`'s progress stood still for `silent_s`, more than `limit_s`."""

    slot: int
    silent_s: float
    limit_s: float
    phase: Phase


def limit_s(row: Row, config: WatchConfig, *, stopped: bool) -> float | None:
    """How long a worker may go without a beat in its phase; None when it is not watched."""
    usual = max(config.floor_s, config.step_factor * row.longest_gap_s)
    match Phase(row.phase):
        case Phase.SETUP | Phase.GONE:
            return None
        case _ if stopped:
            return usual
        case Phase.REGROUP | Phase.COMMIT:
            return max(_REGROUP_LIMIT_S, 10 * config.step_factor * row.longest_gap_s)
        case Phase.COMPUTE if row.steps_done < _WARM_STEPS:
            return _WARM_LIMIT_S
        case _:
            return _DOUBT * usual


class Observation:
    """What one watcher has seen of one neighbour: time since its beats last changed in which it could have beaten."""

    def __init__(
        self,
        starved_s: Callable[[int], float] = starved_s,
        states: Callable[[int], frozenset[str]] = thread_states,
    ):
        """`starved_s(pid)`: seconds that a process has waited for a processor in all; `states(pid)`: its threads'."""
        self.row: Row | None = None
        self.silent_s = 0.0
        self.stopped = False
        self._starved_s, self._states, self._starved_before_s = starved_s, states, 0.0

    def see(self, row: Row, awake_s: float) -> None:
        """Take in a new reading after `awake_s` of the watcher's own awake time."""
        before, self.row = self.row, row
        if before is None or (row.pid, row.born_ticks, row.beats) != (before.pid, before.born_ticks, before.beats):
            self.silent_s = 0.0
        else:
            starved_s = self._starved_s(row.pid)
            if self.silent_s == 0:
                self._starved_before_s = starved_s  # the first silent tick is the reference
            states = self._states(row.pid)
            self.stopped = states <= {"T", "t"}
            counts_s = 0.0 if "D" in states else awake_s - (starved_s - self._starved_before_s)
            self.silent_s += max(_LEAST_S, counts_s)
            self._starved_before_s = starved_s


def judge(slot: int, seen: Observation, others: Iterable[Row], config: WatchConfig) -> Verdict | None:
    """Is the neighbour stuck? One inside a call that waits for others is not while one of them is still at work."""
    if seen.row is None:
        return None
    limit = limit_s(seen.row, config, stopped=seen.stopped)
    if limit is None or seen.silent_s <= limit:
        return None
    at_work = (Phase.COMPUTE, Phase.WAIT, Phase.SETUP, Phase.COMMIT)
    if seen.row.phase == Phase.REGROUP and not seen.stopped and any(other.phase in at_work for other in others):
        return None
    return Verdict(slot, seen.silent_s, limit, Phase(seen.row.phase))


class Watch(threading.Thread):
    """Watches the next workers of this host, in a ring of slots, and kills what is stuck.

    Each watches all up to and with the next that watches in its turn: a process that still loads does not. The last one
    alive watches itself.
    """

    def __init__(self, board: Board, slot: int, config: WatchConfig, on_kill: Callable[[Verdict, Row], None]):
        super().__init__(name="hang-watch", daemon=True)
        self._board, self._slot, self._config, self._on_kill = board, slot, config, on_kill
        self._slots = slot + 1
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        seen: dict[int, Observation] = {}
        killed: set[int] = set()
        last = next_count = time.monotonic()
        while not self._stopping.wait(_TICK_S):
            now = time.monotonic()
            awake_s, last = min(now - last, _LONGEST_TICK_S), now
            if now >= next_count:
                next_count = now + _COUNT_S
                self._slots = 1 + max(slot for slot in range(ROWS) if self._board.read(slot).pid)
            for slot, row in self._watched():
                observation = seen.setdefault(slot, Observation())
                observation.see(row, awake_s)
                verdict = judge(slot, observation, self._others(slot), self._config)
                if verdict and lives(row) and row.pid not in killed:
                    killed.add(row.pid)
                    self._on_kill(verdict, row)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(row.pid, signal.SIGKILL)

    def _watched(self) -> Iterator[tuple[int, Row]]:
        for slot in (*range(self._slot + 1, self._slots), *range(self._slot + 1)):
            row = self._board.read(slot)
            if row.phase != Phase.GONE and lives(row):
                yield slot, row
                if row.phase != Phase.SETUP:
                    return

    def _others(self, slot: int) -> Iterator[Row]:
        """Everybody living on this host but `slot`; read only when somebody asks."""
        rows = (self._board.read(other) for other in range(self._slots) if other != slot)
        return (row for row in rows if lives(row))
