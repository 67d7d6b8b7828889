"""Is a run's launcher still there? It leaves its name in `launcher.pid` of the run folder.

Knows one small file and processes of this host. A process number alone is not enough, since numbers are used again:
the time at which the process began makes it one process.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import psutil

FILE_NAME = "launcher.pid"
_START_TOLERANCE_S = 2.0  # the start time is counted from the boot time, which the kernel gives in whole seconds


class LauncherPid(msgspec.Struct, frozen=True, kw_only=True):
    """A launcher's process; `started` is its start time in seconds since the Unix epoch."""

    pid: int
    host: str
    started: float

    @classmethod
    def of_this_process(cls) -> LauncherPid:
        """This process as a launcher."""
        pid = os.getpid()
        return cls(pid=pid, host=socket.gethostname(), started=psutil.Process(pid).create_time())

    def write(self, run_dir: Path) -> None:
        """Leave it in the run folder, whole or not at all. Raises OSError."""
        new = run_dir / f".{FILE_NAME}.new"
        new.write_bytes(msgspec.json.encode(self) + b"\n")
        new.replace(run_dir / FILE_NAME)

    def is_alive(self) -> bool | None:
        """Whether the process still runs; None for one on another host, which cannot be looked at from here."""
        if self.host != socket.gethostname():
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) <= _START_TOLERANCE_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def read_launcher_pid(run_dir: Path) -> LauncherPid | None:
    """What the launcher left, or None when it left nothing that can be read."""
    try:
        return msgspec.json.decode((run_dir / FILE_NAME).read_bytes(), type=LauncherPid)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None
