"""Writing the trace: one file a process, one event a line, one write a line.

Each process appends to a file of its own under `trace/` in the run folder, so that no two ever write to the same file,
not even over a network file system. A line is handed to the kernel in a single call before the next thing happens:
what a process wrote survives its being killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TypeVar

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.trace import Event, encode

E = TypeVar("E", bound=Event)

LAUNCHER = "launcher"


class TraceFile:
    """One process's part of the trace of a run."""

    def __init__(self, run_dir: Path, by: str):
        self.by = by
        folder = run_dir / "trace"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{_file_name(by)}.jsonl"
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")  # its last writer died in mid-line
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if torn:
            os.write(self._fd, b"\n")

    def emit(self, kind: type[E], /, **fields: object) -> E:
        """Build an event of `kind`, stamped with the time and this process's name, and write it."""
        event = kind(time_s=time.time(), by=self.by, **fields)
        os.write(self._fd, encode(event))
        return event

    def close(self) -> None:
        os.close(self._fd)


def _file_name(by: str) -> str:
    if by == LAUNCHER:
        return by
    worker = WorkerId.parse(by)
    return f"{worker.host}-{worker.slot}-{worker.incarnation}"
