"""What a real run is to a test: its folder, its process, what it said."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from ft_horovod.core.trace import AnyEvent
from ft_horovod.status.follow import read_trace

LIMIT_S = 240.0


@dataclass
class Run:
    """A finished run: what it said, and what its folder tells."""

    folder: Path
    code: int
    output: str

    @property
    def summary(self) -> dict[str, object]:
        return msgspec.json.decode((self.folder / "summary.json").read_bytes(), type=dict[str, object])

    @property
    def events(self) -> list[AnyEvent]:
        return read_trace(self.folder)


@dataclass
class Going:
    """A run that goes on."""

    folder: Path
    process: subprocess.Popen[str]

    def wait(self) -> Run:
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return Run(self.folder, self.process.returncode, output)


def workers_of(folder: Path) -> list[psutil.Process]:
    """Processes that belong to the run in `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found
