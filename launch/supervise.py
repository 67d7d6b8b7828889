"""Runs one job: starts it, sees it end, starts it again where that helps, and says what came of it.

Whatever happens, no process is left behind and the trace ends with `run_finished`. This module knows processes and
exit codes. What the workers do is theirs, how it looks is `status`'s, what is left to run on `restart`'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import msgspec

from ft_horovod.commit.host_files import SHM
from ft_horovod.commit.host_memory_folder import remove as remove_host_memory
from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import (
    EXIT_CONFIG,
    QuorumLost,
)
from ft_horovod.core.trace import (
    AnyEvent,
    Restarted,
    RunFinished,
    RunStarted,
    StepFinished,
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
from launch.restart import first_ground, ground_left
from launch.verdict import every, failed_by_itself, have, judge, state_is_on_disk

_POLL_S = 0.05
_END_S = 10.0  # from the workers' last word to the end of mpirun
_GRACE_S = 10.0  # from asking the workers to end to ending them
_STARTS = 3  # of mpirun, when it says one of these and nothing was started
_PASSING_TROUBLE = (
    b"PMIx server's listener thread failed to start",  # an interface of this machine came or went while it looked
)


class Job:
    """One run under mpirun."""

    def __init__(self, config: RunConfig, folder: RunFolder):
        self._config, self._folder = config, folder
        self.events: list[AnyEvent] = []  # of the last start
        self._unseen: list[AnyEvent] = []
        self._trace = TraceFile(folder.path, LAUNCHER)
        self._merger = Merger(folder.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = self._restarts = 0
        self._ground = first_ground(config)
        self._too_little = ""  # why it was not started again
        self._started_at = time.monotonic()
        self._last_word_at: float | None = None

    def start(self, version: str) -> None:
        """Start mpirun in a session of its own, so that a Ctrl-C reaches only this process."""
        self._version = version
        LauncherPid.of_this_process().write(self._folder.path)
        self._announce()
        self._start_mpirun()

    def _announce(self) -> None:
        layout, folder = self._config.layout, self._folder
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
            version=self._version,
        )

    def _start_mpirun(self) -> None:
        folder, processes = self._folder, self._ground.processes
        program = [sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)]
        launcher = msgspec.structs.replace(self._config.launcher, hosts=self._ground.hosts)
        command = mpirun_command(launcher, processes, program)
        self._starts += 1
        self._started_at, self._last_word_at = time.monotonic(), None
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
        fresh, self._unseen = self._unseen + self._look(last=last), []
        return fresh

    def _look(self, *, last: bool) -> list[AnyEvent]:
        fresh = self._merger.poll(last=last)
        self.events += fresh
        begun = max((i for i, event in enumerate(self.events) if isinstance(event, RunStarted)), default=0)
        del self.events[:begun]  # a resumed run's folder tells of earlier launches too
        return fresh

    def over(self) -> bool:
        """Whether there is nothing more to wait for: mpirun ended, or it is time to end it."""
        assert self._process is not None
        now = time.monotonic()
        if any(failed.exit_code == EXIT_CONFIG for failed in every(self.events, WorkerFailed)):
            return True
        if self._process.poll() is not None:
            if self._stumbled():
                self._start_mpirun()
            elif self._worth_a_restart():
                self._restart()
            else:
                return True
        if not have(self.events, TrainingStarted):
            return now - self._started_at > self._config.launcher.join_timeout_s
        ended = have(self.events, TrainingFinished) or have(self.events, TrainingStopped)
        alone = not self._config.launcher.hosts and not any(self._living())
        if not ended and not alone:
            self._last_word_at = None
        elif self._last_word_at is None:
            self._last_word_at = now  # the rest is to end by itself, or is ended
        return self._last_word_at is not None and now - self._last_word_at > _END_S

    def _stumbled(self) -> bool:
        """Whether mpirun ended before it started anything, for a reason that passes."""
        if self._starts >= _STARTS or have(self.events, WorkerStarted):
            return False
        said = self._folder.launcher_log.read_bytes()
        return any(said.count(trouble) == self._starts for trouble in _PASSING_TROUBLE)

    def _worth_a_restart(self) -> bool:
        """Whether mpirun or a host was lost in the middle of training, and enough is left to go on with."""
        assert self._process is not None
        self._unseen += self._look(last=False)
        settled = have(self.events, TrainingFinished) or have(self.events, TrainingStopped)
        broken = failed_by_itself(self.events) is not None
        if (
            settled
            or broken
            or not have(self.events, TrainingStarted)
            or self._restarts >= self._config.launcher.restarts
        ):
            return False
        try:
            self._ground = ground_left(self._config, self._ground)
        except QuorumLost as error:
            self._too_little = str(error)
            return False
        return self._process.returncode < 0 or bool(self._ground.lost)

    def _restart(self) -> None:
        """Start mpirun again; faults that have struck do not strike again."""
        assert self._process is not None
        lost = ", ".join(self._ground.lost)
        reason = f"{lost} lost" if lost else f"mpirun ended by signal {-self._process.returncode}"
        self._restarts, self._starts = self._restarts + 1, 0
        self._end_workers()
        self._trace.emit(Restarted, reason=reason, workers=self._ground.processes)
        self._folder.drop_faults(max((event.step for event in every(self.events, StepFinished)), default=0))
        self.events.clear()
        self._announce()
        self._start_mpirun()

    def _end_workers(self) -> None:
        """Kill what is left on this host, and see it gone."""
        give_up = time.monotonic() + _GRACE_S
        while (left := self._living()) and time.monotonic() < give_up:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_S)

    def end(self, *, interrupted: bool) -> int:
        """End every process of the job, finish the trace, and return the exit code."""
        assert self._process is not None
        if interrupted and self._process.poll() is None:
            self._ask_to_end()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._end_workers()
        self._process.wait()
        self.poll(last=True)
        outcome, message, code = judge(
            self.events, self._folder, interrupted=interrupted, too_little=self._too_little or "all workers are lost"
        )
        self._trace.emit(RunFinished, outcome=outcome, message=message)
        self.poll(last=True)
        for host in {started.host for started in every(self.events, WorkerStarted)} | {socket.gethostname()}:
            Board.path_for(self._folder.name, host).unlink(missing_ok=True)
        self._folder.launcher_pid.unlink(missing_ok=True)
        if state_is_on_disk(self.events):
            remove_host_memory(SHM, self._folder.name)
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
