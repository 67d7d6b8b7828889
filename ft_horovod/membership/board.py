"""The progress board: one row a worker in memory shared by the processes of a host.

A worker writes its own row, without locks: a beat is one store of a few numbers. Its neighbours read it to tell a
stuck worker from a busy one and to know when a dead one was last alive. This module knows rows, not what follows.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import struct
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from ft_horovod.core.errors import ConfigError

ROWS = 1024
_ROW = struct.Struct("=Qqqqqqqddd")  # 80 bytes, see Row
_ROW_BYTES = 128
_WINDOW_STEPS = 20


class Phase(enum.IntEnum):
    """What a worker does; how long it may do it without a beat depends on it."""

    SETUP = 0  # loading, building: not watched
    COMPUTE = 1
    WAIT = 2  # for a sum; beats while it waits
    REGROUP = 3  # inside calls that cannot beat
    SPARE = 4
    COMMIT = 5
    GONE = 6  # left or finished on its own


class Row(NamedTuple):
    """One worker's row. Times in seconds of the host's monotonic clock."""

    beats: int
    pid: int
    born_ticks: int  # start time of the process, so that a reused pid is not taken for it
    incarnation: int
    step: int
    steps_done: int  # in this process: how much its longest pause can be trusted
    phase: int
    beat_at: float
    phase_at: float
    longest_gap_s: float


class Board:
    """The rows of one host in a file of shared memory."""

    def __init__(self, path: Path):
        self.path = path
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot open shared memory: {error.strerror}", source=str(path)) from error
        try:
            os.ftruncate(fd, ROWS * _ROW_BYTES)
            self._map = mmap.mmap(fd, ROWS * _ROW_BYTES)
        finally:
            os.close(fd)

    def read(self, slot: int) -> Row:
        """The row of a slot; `pid` is 0 when nobody ever wrote it."""
        return Row(*_ROW.unpack_from(self._map, slot * _ROW_BYTES))

    def write(self, slot: int, row: Row) -> None:
        _ROW.pack_into(self._map, slot * _ROW_BYTES, *row)

    @staticmethod
    def path_for(run: str, host: str) -> Path:
        """Where the board of a run lies on a host; several runs and several hosts may share a machine."""
        return Path("/dev/shm") / f"ft-horovod-{run}-{host}.board"


class Pulse:
    """Writes one worker's row: `beat` at every layer and poll, `enter` at every change of phase."""

    def __init__(self, board: Board, slot: int, incarnation: int):
        if not 0 <= slot < ROWS:
            raise ConfigError(f"slot {slot}: a host has at most {ROWS} slots")
        self.board, self.slot = board, slot
        self._pid, self._born, self._incarnation = os.getpid(), born_ticks(os.getpid()), incarnation
        self._gaps: deque[float] = deque(maxlen=_WINDOW_STEPS)
        self._gap = 0.0
        self._longest = 0.0
        self._beats, self._step, self._steps_done, self._phase = 0, 0, 0, Phase.SETUP
        self._beat_at = self._phase_at = time.monotonic()
        self._write()

    def beat(self) -> None:
        """A sign of life."""
        now = time.monotonic()
        if self._phase == Phase.COMPUTE:
            self._gap = max(self._gap, now - self._beat_at)
        self._beat_at = now
        self._beats += 1
        self._write()

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """Another phase begins, perhaps of another step."""
        self.beat()
        if step is not None and step != self._step:
            self._gaps.append(self._gap)
            self._gap, self._longest, self._step = 0.0, max(self._gaps), step
            self._steps_done += 1
        self._phase, self._phase_at = phase, self._beat_at
        self._write()

    def _write(self) -> None:
        self.board.write(
            self.slot,
            Row(
                self._beats,
                self._pid,
                self._born,
                self._incarnation,
                self._step,
                self._steps_done,
                self._phase,
                self._beat_at,
                self._phase_at,
                max(self._longest, self._gap),
            ),
        )


def born_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot, or -1 when it is gone (a zombie is gone)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in "ZX" else int(fields[19])


def starved_s(pid: int) -> float:
    """Seconds that the threads of a process have waited for a processor, the longest of them; 0 when unknown.

    A stopped, sleeping or deadlocked process waits for none: what tells it from one that gets no turn on a busy host.
    """
    longest_ns = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in os.scandir(f"/proc/{pid}/task"):
            longest_ns = max(longest_ns, int(Path(task.path, "schedstat").read_text().split()[1]))
    return longest_ns / 1e9


def thread_states(pid: int) -> frozenset[str]:
    """The states of a process's threads, as in `ps`: R runs, S sleeps, D waits for a device, T is stopped."""
    found = set()
    with contextlib.suppress(OSError, IndexError):
        for task in os.scandir(f"/proc/{pid}/task"):
            found.add(Path(task.path, "stat").read_text().rpartition(")")[2].split()[0])
    return frozenset(found)


def lives(row: Row) -> bool:
    """Whether the process that wrote the row is still there."""
    return row.pid > 0 and born_ticks(row.pid) == row.born_ticks
