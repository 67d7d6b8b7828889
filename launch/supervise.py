"""Runs one job: starts it, shows it, sees it end, and says what came of it.

Whatever happens, no process is left behind and the trace ends with `run_finished`. This module knows processes and
exit codes. What the workers do is theirs, how it looks is `status`'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_OK, EXIT_REQUEUE
from ft_horovod.core.trace import (
    AnyEvent,
    Event,
    RunFinished,
    RunStarted,
    TrainingFinished,
    TrainingStarted,
    TrainingStopped,
    WorkerFailed,
    WorkerStarted,
)
from ft_horovod.membership.board import ROWS, Board, lives
from ft_horovod.runfolder import RunFolder
from ft_horovod.status.follow import Merger
from ft_horovod.status.launcher_pid import LauncherPid
from ft_horovod.tracefile import LAUNCHER, TraceFile
from launch.mpirun import mpirun_command, worker_environment

E = TypeVar("E", bound=Event)

_POLL_S = 0.05
_END_S = 10.0  # from the last worker's last word to the end of mpirun
_GRACE_S = 10.0  # from asking the workers to end to ending them
_LOG_LINES = 12


class Interrupted(Exception):
    """The user or the scheduler asked this process to end."""


class Job:
    """One run under mpirun."""

    def __init__(self, config: RunConfig, folder: RunFolder):
        self._config, self._folder = config, folder
        self.events: list[AnyEvent] = []
        self._trace = TraceFile(folder.path, LAUNCHER)
        self._merger = Merger(folder.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = time.monotonic()

    def start(self, version: str) -> None:
        """Start mpirun in a session of its own, so that a Ctrl-C reaches only this process."""
        layout, folder = self._config.layout, self._folder
        LauncherPid.of_this_process().write(folder.path)
        processes = layout.workers + layout.spares
        program = [sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)]
        command = mpirun_command(self._config.launcher, processes, program)
        self._trace.emit(
            RunStarted,
            run=folder.path.name,
            workers=layout.workers,
            spares=layout.spares,
            min_workers=layout.min_workers,
            model=self._config.model.name,
            data=self._config.data.name,
            batch_size=self._config.data.batch_size,
            launcher=self._config.launcher.kind,
            version=version,
        )
        with folder.launcher_log.open("ab") as log:
            log.write((" ".join(command) + "\n").encode())
            log.flush()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **worker_environment(processes)},
            )

    def poll(self) -> list[AnyEvent]:
        """New events of the trace."""
        fresh = self._merger.poll()
        self.events += fresh
        return fresh

    def wait(self, show: Callable[[list[AnyEvent]], None]) -> None:
        """Until the job is over. `show` gets new events; it raises nothing."""
        assert self._process is not None
        last_word: float | None = None
        while self._process.poll() is None:
            show(self.poll())
            if last_word is None and self._is_over():
                last_word = time.monotonic()
            if last_word is not None and time.monotonic() - last_word > _END_S:
                return
            if not self._have(TrainingStarted) and time.monotonic() - self._started_at > self._join_limit_s:
                return
            if any(failed.exit_code == 2 for failed in self._all(WorkerFailed)):
                return
            time.sleep(_POLL_S)
        show(self.poll())

    @property
    def _join_limit_s(self) -> float:
        return self._config.launcher.join_timeout_s

    def _is_over(self) -> bool:
        """Whether no worker will do anything any more: all that live have said their last word."""
        return bool(self._have(TrainingFinished) or self._have(TrainingStopped)) and not any(self._living())

    def end(self, interrupted: bool, show: Callable[[list[AnyEvent]], None]) -> int:
        """End every process of the job, finish the trace, and return the exit code."""
        assert self._process is not None
        if interrupted and self._process.poll() is None:
            self._ask_to_end(show)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        show(self.poll())
        outcome, message, code = self._judge(interrupted)
        self._trace.emit(RunFinished, outcome=outcome, message=message)
        self.events += self._merger.flush()
        for host in {started.host for started in self._all(WorkerStarted)} | {socket.gethostname()}:
            Board.path_for(self._folder.name, host).unlink(missing_ok=True)
        self._folder.launcher_pid.unlink(missing_ok=True)
        return code

    def _ask_to_end(self, show: Callable[[list[AnyEvent]], None]) -> None:
        """All workers leave at once: they commit to disk and end. Those that do not are ended."""
        assert self._process is not None
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        give_up = time.monotonic() + _GRACE_S
        while self._process.poll() is None and any(self._living()) and time.monotonic() < give_up:
            show(self.poll())
            time.sleep(_POLL_S)

    def _living(self) -> list[int]:
        """Process ids of this host's workers that live, found on the board they write."""
        path = Board.path_for(self._folder.name, socket.gethostname())
        if not path.exists():
            return []
        board = Board(path)
        rows = (board.read(slot) for slot in range(ROWS))
        return [row.pid for row in rows if row.pid and lives(row)]

    def _judge(self, interrupted: bool) -> tuple[str, str, int]:
        """Outcome, message and exit code, from what the trace says."""
        resume = f"resume with: ft-horovod train --resume {self._folder.path}"
        failed = next(iter(self._all(WorkerFailed)), None)
        if self._have(TrainingFinished):
            return "finished", "", EXIT_OK
        if interrupted:
            return "interrupted", resume, EXIT_INTERRUPTED
        if failed is not None and failed.exit_code not in (EXIT_REQUEUE,):
            return "failed", f"{failed.worker}: {failed.message}", failed.exit_code
        stopped = next(iter(self._all(TrainingStopped)), None)
        if stopped is not None:
            return "quorum_lost", f"{stopped.reason}; {resume}", EXIT_REQUEUE
        if self._have(TrainingStarted):
            return "quorum_lost", f"all workers are lost; {resume}", EXIT_REQUEUE
        return "failed", f"the workers did not start: {self._log_tail()}", EXIT_BUG

    def _log_tail(self) -> str:
        lines = self._folder.launcher_log.read_text(errors="replace").strip().splitlines()[1:]
        return f"see {self._folder.logs}" + "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])

    def _all(self, kind: type[E]) -> Iterable[E]:
        return (event for event in self.events if isinstance(event, kind))

    def _have(self, kind: type[AnyEvent]) -> bool:
        return any(True for _ in self._all(kind))
