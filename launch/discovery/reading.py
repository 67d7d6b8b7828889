"""Asking a source: a file is read, a command is run, an environment looked at, each within a time limit.

A file system or a command that does not answer must not hold up the caller: horovodrun keeps its lock while it waits
for us, and with it every worker that wants to regroup. What the text means is `sources`' business.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import msgspec

from ft_horovod.core.errors import ConfigError
from launch.discovery import sources
from launch.discovery.hosts import HostSlots
from launch.discovery.sources import Environment

MAX_TEXT_BYTES = 4 << 20
_POLL_S = 0.02
_SHELL_SAYS = {126: "exit 126: it is not executable", 127: "exit 127: it, or something it calls, was not found"}

Kind = Literal["static", "hostfile", "command", "slurm", "pbs", "lsf"]


class Source(msgspec.Struct, frozen=True):
    """Where hosts come from. `what` is the path or the command, empty for schedulers, which the environment names."""

    kind: Kind
    what: str = ""
    slots: int | None = None  # of a host for which a file or command names none; of every host of a scheduler

    def __str__(self) -> str:
        return f"{self.kind} {self.what!r}" if self.what else self.kind

    @property
    def may_start_empty(self) -> bool:
        """Whether naming no host is what one sees while the cluster starts, rather than a mistake."""
        return self.kind in ("hostfile", "command")


def name_in(source: Source, environment: Environment) -> str:
    """The source and the scheduler's job around us: another job's answer is not this one's."""
    ids = ((name, environment.get(name)) for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID"))
    return ", ".join([str(source), *(f"{name}={value}" for name, value in ids if value)])


def detect(environment: Environment, slots: int | None = None) -> Source:
    """The scheduler whose job this is. Raises ConfigError when there is none."""
    if environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST"):
        return Source("slurm", slots=slots)
    if environment.get("PBS_NODEFILE"):
        return Source("pbs", slots=slots)
    if any(environment.get(name) for name in ("LSB_DJOB_HOSTFILE", "LSB_MCPU_HOSTS", "LSB_HOSTS")):
        return Source("lsf", slots=slots)
    raise ConfigError(
        "no source of hosts: give --static, --hostfile or --command; no Slurm, PBS or LSF job was found around us"
    )


def ask(source: Source, environment: Environment, limit_s: float) -> tuple[HostSlots, ...]:
    """The hosts that `source` names now. Raises NoHosts when it names none, ConfigError for everything else wrong."""
    match source.kind:
        case "static" | "hostfile":
            return sources.host_lines(read_file(Path(source.what), limit_s), source.what, source.slots or 1)
        case "command":
            name = f"output of {source.what!r}"
            return sources.host_lines(run_command(source.what, limit_s), name, source.slots or 1)
        case "slurm":
            return sources.slurm(environment, source.slots)
        case "pbs":
            path = environment.get("PBS_NODEFILE")
            if not path:
                raise ConfigError("is not set: run inside a job (qsub)", source="PBS_NODEFILE")
            return sources.with_slots(sources.slot_lines(read_file(Path(path), limit_s), path), source.slots)
        case "lsf":
            return sources.with_slots(_ask_lsf(environment, limit_s), source.slots)


def _ask_lsf(environment: Environment, limit_s: float) -> tuple[HostSlots, ...]:
    """The file first: LSF keeps it up to date when a job grows or shrinks, variables it cannot."""
    if path := environment.get("LSB_DJOB_HOSTFILE"):
        return sources.slot_lines(read_file(Path(path), limit_s), path)
    if text := environment.get("LSB_MCPU_HOSTS"):
        return sources.lsb_mcpu_hosts(text)
    if text := environment.get("LSB_HOSTS"):
        return sources.lsb_hosts(text)
    raise ConfigError("is not set: run inside a job (bsub)", source="LSB_DJOB_HOSTFILE")


def read_file(path: Path, limit_s: float) -> str:
    """The text of a file. Raises ConfigError when it cannot be read within `limit_s`, is no text, or too much."""
    done: list[bytes | OSError] = []

    def read() -> None:
        try:
            with path.open("rb") as file:
                done.append(file.read(MAX_TEXT_BYTES + 1))
        except OSError as error:
            done.append(error)

    # A thread, since opening a pipe or a file on a lost server waits for good. It ends with this process.
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(limit_s)
    if not done:
        raise ConfigError(f"could not be read within {limit_s:g} s", source=str(path))
    if isinstance(done[0], OSError):
        raise ConfigError(f"cannot be read: {done[0].strerror}", source=str(path)) from done[0]
    return _text(done[0], str(path))


def run_command(command: str, limit_s: float) -> str:
    """What a shell command prints on standard output; its standard error is ours.

    Raises ConfigError when it fails, prints too much or no text, or has not ended within `limit_s`: then it and what it
    started are killed.
    """
    name = f"command {command!r}"
    # A session of its own, so that all of it can be killed.
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    give_up = time.monotonic() + limit_s
    try:
        output = _read_until_end(process.stdout, lambda: process.poll() is not None, give_up)
        if len(output) <= MAX_TEXT_BYTES:
            process.wait(timeout=max(0.0, give_up - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"did not end within {limit_s:g} s and was killed", source=name) from error
    finally:
        # Killed by a signal, it has not ended its children: so does horovodrun end us, shells first.
        if (process.poll() or 0) < 0 or process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    text, code = _text(output, f"output of {command!r}"), process.returncode
    if code:
        told = _SHELL_SAYS.get(code, f"exit {code}" if code > 0 else f"killed by signal {-code}")
        raise ConfigError(told, source=name)
    return text


def _read_until_end(pipe: IO[bytes], ended: Callable[[], bool], give_up: float) -> bytes:
    """All that comes until the pipe is closed or its process has ended: a child left behind may hold the pipe open.

    Raises TimeoutError. Reads no more than one byte beyond what is allowed.
    """
    os.set_blocking(pipe.fileno(), False)
    output = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(output) <= MAX_TEXT_BYTES:
            if time.monotonic() > give_up:
                raise TimeoutError
            over = ended()  # asked before the pipe, so that its last words are not missed
            if selector.select(0 if over else _POLL_S):
                chunk = os.read(pipe.fileno(), MAX_TEXT_BYTES + 1 - len(output))
                if not chunk:
                    break
                output += chunk
            elif over:
                break
    return bytes(output)


def _text(content: bytes, source: str) -> str:
    if len(content) > MAX_TEXT_BYTES:
        raise ConfigError(f"is longer than {MAX_TEXT_BYTES >> 20} MiB", source=source)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not text (UTF-8)", source=source, line=line) from error
