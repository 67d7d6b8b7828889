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
from collections.abc import Iterable
from typing import TypeVar

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import EXIT_BUG, EXIT_CONFIG, EXIT_FENCED, EXIT_INTERRUPTED, EXIT_OK, EXIT_REQUEUE
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
_END_S = 10.0  # from the workers' last word to the end of mpirun
_GRACE_S = 10.0  # from asking the workers to end to ending them
_LOG_LINES = 12
_STARTS = 3  # of mpirun, when it says one of these and nothing was started
_PASSING_TROUBLE = (
    b"PMIx server's listener thread failed to start",  # an interface of this machine came or went while it looked
)


class Job:
    """One run under mpirun."""

    def __init__(self, config: RunConfig, folder: RunFolder):
        self._config, self._folder = config, folder
        self.events: list[AnyEvent] = []
        self._trace = TraceFile(folder.path, LAUNCHER)
        self._merger = Merger(folder.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._started_at = time.monotonic()
        self._last_word_at: float | None = None

    def start(self, version: str) -> None:
        """Start mpirun in a session of its own, so that a Ctrl-C reaches only this process."""
        layout, folder = self._config.layout, self._folder
        LauncherPid.of_this_process().write(folder.path)
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
        self._start_mpirun()

    def _start_mpirun(self) -> None:
        layout, folder = self._config.layout, self._folder
        processes = layout.workers + layout.spares
        program = [sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)]
        command = mpirun_command(self._config.launcher, processes, program)
        self._starts += 1
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

    def poll(self, *, last: bool = False) -> list[AnyEvent]:
        """New events of the trace, in order."""
        fresh = self._merger.poll(last=last)
        self.events += fresh
        begun = max((i for i, event in enumerate(self.events) if isinstance(event, RunStarted)), default=0)
        del self.events[:begun]  # a resumed run's folder tells of earlier launches too
        return fresh

    def over(self) -> bool:
        """Whether there is nothing more to wait for: mpirun ended, or it is time to end it."""
        assert self._process is not None
        now = time.monotonic()
        if any(failed.exit_code == EXIT_CONFIG for failed in self._all(WorkerFailed)):
            return True
        if self._process.poll() is not None:
            if not self._stumbled():
                return True
            self._start_mpirun()
        if not self._have(TrainingStarted):
            return now - self._started_at > self._config.launcher.join_timeout_s
        ended = self._have(TrainingFinished) or self._have(TrainingStopped)
        alone = not self._config.launcher.hosts and not any(self._living())
        if not ended and not alone:
            self._last_word_at = None
        elif self._last_word_at is None:
            self._last_word_at = now  # the rest is to end by itself, or is ended
        return self._last_word_at is not None and now - self._last_word_at > _END_S

    def _stumbled(self) -> bool:
        """Whether mpirun ended before it started anything, for a reason that passes."""
        if self._starts >= _STARTS or self._have(WorkerStarted):
            return False
        said = self._folder.launcher_log.read_bytes()
        return any(said.count(trouble) == self._starts for trouble in _PASSING_TROUBLE)

    def end(self, *, interrupted: bool) -> int:
        """End every process of the job, finish the trace, and return the exit code."""
        assert self._process is not None
        if interrupted and self._process.poll() is None:
            self._ask_to_end()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self.poll(last=True)
        outcome, message, code = self._judge(interrupted)
        self._trace.emit(RunFinished, outcome=outcome, message=message)
        self.poll(last=True)
        for host in {started.host for started in self._all(WorkerStarted)} | {socket.gethostname()}:
            Board.path_for(self._folder.name, host).unlink(missing_ok=True)
        self._folder.launcher_pid.unlink(missing_ok=True)
        return code

    def _ask_to_end(self) -> None:
        """All workers leave at once: they commit to disk and end. Those that do not are ended."""
        assert self._process is not None
        for pid in self._living():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        give_up = time.monotonic() + _GRACE_S
        while self._process.poll() is None and any(self._living()) and time.monotonic() < give_up:
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
        if failed is not None and failed.exit_code not in (EXIT_REQUEUE, EXIT_FENCED):
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
