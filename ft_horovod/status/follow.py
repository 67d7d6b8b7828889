"""Reading the trace of a run folder: all at once, as it grows, and into one file.

    RUN/trace/launcher.jsonl, RUN/trace/<host>-<slot>-<incarnation>.jsonl    written by one process each
    RUN/trace.jsonl                                                         all of them, merged by the launcher

Knows files and lines. A writer may be killed in the middle of a line at any time: a line counts once its newline is
there. Nothing here knows what events mean.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ft_horovod.core.trace import AnyEvent, decode_lines

REORDER_S = 0.3


class Source(Protocol):
    """Where events come from. `last` asks for everything that is held back."""

    def poll(self, *, last: bool = False) -> list[AnyEvent]: ...


@dataclass(frozen=True, slots=True)
class TraceFolder:
    """The names of a run folder's trace files."""

    run_dir: Path

    @property
    def merged(self) -> Path:
        """The one file of all events."""
        return self.run_dir / "trace.jsonl"

    @property
    def parts(self) -> Path:
        """The folder with a file for each process."""
        return self.run_dir / "trace"

    def part_files(self) -> list[Path]:
        """The files that are there now, by name."""
        try:
            with os.scandir(self.parts) as entries:
                return sorted(Path(entry.path) for entry in entries if entry.name.endswith(".jsonl"))
        except FileNotFoundError:
            return []


def read_trace(run_dir: Path) -> list[AnyEvent]:
    """All events of a run by time; empty when the folder has no trace.

    Reads trace.jsonl and adds what only the processes' own files have: a killed launcher did not merge the end.
    """
    folder = TraceFolder(run_dir)
    files = [path for path in (folder.merged, *folder.part_files()) if path.exists()]
    lines = dict.fromkeys(line for path in files for line in path.read_bytes().splitlines(keepends=True))
    return sorted(decode_lines(lines), key=_time_s)


def _time_s(event: AnyEvent) -> float:
    return event.time_s


@dataclass(slots=True)
class _Part:
    """How far one file has been read: to the end of its last whole line, and the size at that time."""

    offset: int = 0
    size: int = 0


class Tail:
    """New events of all files in RUN/trace. A poll without news costs a directory listing and a stat for each file."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = TraceFolder(run_dir)
        self._parts: dict[Path, _Part] = {}

    def poll(self, *, last: bool = False) -> list[AnyEvent]:
        """Events since the last poll, by time. A torn last line waits for its rest. `last` changes nothing here."""
        return [event for event, _ in self.poll_lines()]

    def poll_lines(self) -> list[tuple[AnyEvent, bytes]]:
        """The same, each event with the line it was read from."""
        new = [pair for path in self._folder.part_files() for pair in _with_lines(self._read(path))]
        new.sort(key=lambda pair: pair[0].time_s)
        return new

    def _read(self, path: Path) -> list[bytes]:
        part = self._parts.setdefault(path, _Part())
        size = path.stat().st_size
        if size == part.size:
            return []
        if size < part.offset:
            part.offset = 0  # written anew
        with path.open("rb") as file:
            file.seek(part.offset)
            data = file.read()
        part.size = part.offset + len(data)
        whole = data[: data.rfind(b"\n") + 1]
        part.offset += len(whole)
        return whole.splitlines(keepends=True)


def _with_lines(lines: Iterable[bytes]) -> list[tuple[AnyEvent, bytes]]:
    return [(event, line) for line in lines for event in decode_lines((line,))]


@dataclass(frozen=True, slots=True)
class _Held:
    event: AnyEvent
    line: bytes
    arrived_s: float


class Merger:
    """Appends the events of RUN/trace to RUN/trace.jsonl in time order; one process does so, the launcher.

    Events are held back for a short while, since those of other processes may be older and yet arrive later. What is
    written are whole lines that were read as events, so the file stays valid whoever is killed. A launcher that goes on
    in an old folder continues the file: what is in it already is not written again.
    """

    def __init__(
        self, run_dir: Path, *, reorder_s: float = REORDER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tail = Tail(run_dir)
        self._path = TraceFolder(run_dir).merged
        self._reorder_s, self._clock = reorder_s, clock
        self._held: list[_Held] = []
        self._before = self._mend()
        self._known = {line for _, line in self._before}

    def poll(self, *, last: bool = False) -> list[AnyEvent]:
        """Read, write what has waited long enough (everything if `last`), and give what was written.

        The first poll also gives what the file held before.
        """
        now_s = self._clock()
        for event, line in self._tail.poll_lines():
            if line in self._known:
                self._known.discard(line)
            else:
                self._held.append(_Held(event, line, now_s))
        self._held.sort(key=lambda held: held.event.time_s)
        ready = [i for i, held in enumerate(self._held) if last or held.arrived_s <= now_s - self._reorder_s]
        due = ready[-1] + 1 if ready else 0  # with an event go all that are older, however late they came
        released = self._held[:due]
        self._append(b"".join(held.line for held in released), sync=last)
        self._held = self._held[due:]
        before, self._before = self._before, []
        return [*(event for event, _ in before), *(held.event for held in released)]

    def flush(self) -> list[AnyEvent]:
        """Write everything, to the platter; for the end of a run."""
        return self.poll(last=True)

    def _append(self, data: bytes, *, sync: bool) -> None:
        if not data and not sync:
            return
        with self._path.open("ab") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())

    def _mend(self) -> list[tuple[AnyEvent, bytes]]:
        """Cut off the torn line that a killed launcher left, and give what is there."""
        if not self._path.exists():
            return []
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            os.truncate(self._path, len(whole))
        return _with_lines(whole.splitlines(keepends=True))
