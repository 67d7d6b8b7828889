"""Starting programs that may hang, and leaving none of them behind.

This process becomes the one that orphans of its descendants are handed to, so everything that a program of ours ever
started is still found below this process when the program itself is gone. Only what is found there is ever ended, each
process by its id. Nothing here knows what the programs do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.02
_END_LIMIT_S = 20.0


class Stuck(Exception):
    """Processes could not be ended."""


def take_charge() -> None:
    """Call once, first thing: orphans come to this process, and a SIGTERM is answered as a Ctrl-C is."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _as_interrupt)


@contextlib.contextmanager
def started(
    command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, gentle_s: float = 0.0
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, its output in `log`. When the body is left, however that comes, it and all it started are ended.

    With `gentle_s` the program is first asked to end, by SIGTERM, and has that long. One program at a time.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    try:
        yield process
    finally:
        try:
            if gentle_s and process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(gentle_s)
        finally:
            end_descendants()
            process.wait()
            _reap()


def run_limited(
    command: Sequence[str],
    log: Path,
    limit_s: float,
    *,
    env: Mapping[str, str] | None = None,
    gentle_s: float = 0.0,
) -> int | None:
    """Run a program to its end and return its exit code, or None when it had to be ended after `limit_s`."""
    with started(command, log, env=env, gentle_s=gentle_s) as process:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None


def end_descendants() -> None:
    """End every process below this one. Raises Stuck when some do not go."""
    give_up = time.monotonic() + _END_LIMIT_S
    while living := list(living_descendants()):
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if time.monotonic() > give_up:
            raise Stuck(f"cannot be ended: {', '.join(str(process.pid) for process in living)}")
        time.sleep(_POLL_S)


def living_descendants() -> Iterator[psutil.Process]:
    """All processes below this one that are not over."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def log_tail(log: Path, lines: int = 6) -> str:
    """The last lines of a program's output."""
    try:
        return "\n".join(log.read_text(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""


def _reap() -> None:
    """Collect the orphans that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
