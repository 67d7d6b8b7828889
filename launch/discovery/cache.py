"""The memory between two calls: the last good answer and the ledger, in a folder that several processes may share.

Files are written aside and renamed under a lock, so a reader needs none and never sees half a file. A damaged file is
reported and counts as absent: memory helps, and must not be what stops a job. This module does not know what the
memory is good for: `answer` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from ft_horovod.core.errors import ConfigError
from launch.discovery.hosts import HostSlots
from launch.discovery.ledger import Ledger

T = TypeVar("T")

_LOCK_S = 1.0  # the lock is held for milliseconds
_POLL_S = 0.01


class Memory(msgspec.Struct, frozen=True):
    """What one source said last, and what was made of it. Times are seconds since 1970: several processes write."""

    source: str
    found: tuple[HostSlots, ...]
    found_s: float  # when the source was asked
    given: tuple[str, ...] = ()  # hosts of the last answer, in order
    told: str = ""  # what was last said on standard error
    told_s: float = 0.0


class State:
    """The folder of the memory; `problems` collects what was wrong with it, a line each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.problems: list[str] = []

    def memory(self, source: str) -> Memory | None:
        """What this source said last, if that is known."""
        memory = self._read(self._memory_path(source), Memory)
        return memory if memory is not None and memory.source == source else None

    def ledger(self) -> Ledger:
        return self._read(self._ledger_path, Ledger) or Ledger()

    def keep_memory(self, memory: Memory) -> None:
        """Replace the memory of its source; the caller holds the lock. Raises ConfigError."""
        self._write(self._memory_path(memory.source), memory)

    def keep_ledger(self, ledger: Ledger) -> None:
        """Replace the ledger, for good when this returns; the caller holds the lock. Raises ConfigError."""
        self._write(self._ledger_path, ledger, lasting=True)

    def change_ledger(self, change: Callable[[Ledger], Ledger]) -> None:
        """Write down what `change` makes of the ledger; nobody else's change is lost. Raises ConfigError."""
        with self.lock():
            self.keep_ledger(change(self.ledger()))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the folder, which is made if need be. Raises ConfigError when that fails or takes long."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._take(fd)
            yield
        finally:
            os.close(fd)

    def _take(self, fd: int) -> None:
        give_up = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    raise ConfigError(f"is locked by another process for {_LOCK_S:g} s", source=self._name) from error
                time.sleep(_POLL_S)
            except OSError as error:  # a file system without locks
                raise self._unusable(error) from error
            else:
                return

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.problems.append(f"{path}: cannot be used: {reason}")
            return None

    def _write(self, path: Path, value: object, *, lasting: bool = False) -> None:
        new = path.with_suffix(".new")  # one name will do: the lock is held
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(value) + b"\n")
                if lasting:
                    file.flush()
                    os.fsync(file.fileno())
            new.replace(path)
        except OSError as error:
            raise self._unusable(error) from error

    def _memory_path(self, source: str) -> Path:
        return self.folder / f"answer-{hashlib.sha256(source.encode()).hexdigest()[:12]}.json"

    @property
    def _ledger_path(self) -> Path:
        return self.folder / "ledger.json"

    @property
    def _name(self) -> str:
        return f"state {self.folder}"

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(f"cannot be written: {error.strerror}", source=self._name)
