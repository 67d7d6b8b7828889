"""Where things lie in a run folder.

    config.yaml      the resolved configuration
    faults.json      the resolved fault schedule
    trace/           one trace file a process
    trace.jsonl      the merged trace
    summary.json     what came of it
    commits/         states on disk
    logs/            one log a process, and mpirun's
    ready/           marks of newcomers that wait to be let in
    launcher.pid     who runs it

This module knows names, and what makes a folder fit for a new run.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ft_horovod.core.errors import ConfigError
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.schedule import PlannedFault


class RunFolder:
    """The paths of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.yaml"
        self.faults = path / "faults.json"
        self.trace = path / "trace.jsonl"
        self.summary = path / "summary.json"
        self.commits = path / "commits"
        self.logs = path / "logs"
        self.ready = path / "ready"
        self.launcher_pid = path / "launcher.pid"
        self.launcher_log = self.logs / "mpirun.log"

    @property
    def name(self) -> str:
        """The run's name: its folder's, with the inode number, so that two runs of one name never share memory."""
        return f"{self.path.resolve().name}-{self.path.stat().st_ino:x}"

    def log(self, worker: WorkerId) -> Path:
        return self.logs / f"{worker.host}-{worker.slot}-{worker.incarnation}.log"

    def create(self) -> None:
        """Make a new run's folder. Raises ConfigError when there is something in it already or it cannot be written."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise ConfigError(
                "exists already and is not empty: nothing is overwritten; give another --out, or --resume it",
                source=str(self.path),
            )
        self.prepare()

    def prepare(self) -> None:
        """Make what is missing of it. Raises ConfigError when it cannot be written."""
        try:
            for folder in (self.path, self.logs, self.ready):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", source=str(self.path)) from error
        if not os.access(self.path, os.W_OK):
            raise ConfigError("cannot be written: permission denied", source=str(self.path))

    def drop_faults(self, until_step: int) -> None:
        """Forget the faults that have struck by this step; those by time are over as well."""
        left = [fault for fault in self.read_faults() if fault.step is not None and fault.step > until_step]
        self.faults.write_bytes(msgspec.json.encode(left))

    def read_faults(self) -> list[PlannedFault]:
        """The faults of this run; none when there is no schedule."""
        if not self.faults.exists():
            return []
        return msgspec.json.decode(self.faults.read_bytes(), type=list[PlannedFault])
