"""Host memory seen from outside: what a run left there, what there is room for, and removing it.

This module reads and removes files of `host_files`. It does not know torch: launchers and the command line use it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ft_horovod.commit.host_files import SHM, entries, slices_in
from ft_horovod.commit.host_slices import Slice
from ft_horovod.core.errors import CommitError


def find(folder: Path, run_name: str, host: str) -> list[Slice]:
    """All whole slices of a run on a host, newest first; what is damaged, foreign or being written is left out.

    Payloads are not checked: `host_memory.load` does.
    """
    found: list[Slice] = []
    for entry in entries(folder, run_name, host):
        with contextlib.suppress(OSError, CommitError):
            found += slices_in(entry)
    return sorted(found, key=lambda one: (-one.meta.act, -one.meta.step, one.slot, -one.header.sequence))


def hosts_of(folder: Path, run_name: str) -> list[str]:
    """The hosts that this machine keeps something for: one, but in tests."""
    return sorted({entry.host for entry in entries(folder, run_name, None)})


def remove(folder: Path, run_name: str, host: str | None = None) -> int:
    """Remove a run's files, of one host or of all on this machine; returns how many. Other users' are left."""
    removed = 0
    for entry in entries(folder, run_name, host):
        with contextlib.suppress(OSError):
            if entry.path.lstat().st_uid == os.geteuid():
                entry.path.unlink()
                removed += 1
    return removed


def room(needed_bytes: int, folder: Path = SHM, run_name: str | None = None) -> str | None:
    """One line about what is missing if `needed_bytes` do not fit into `folder`; None if they do.

    What `run_name` left there counts as free: it is used again.
    """
    try:
        state = os.statvfs(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}: mount a tmpfs there, or set commit.host_memory: off"
    total_bytes, free_bytes = state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize
    if total_bytes == 0:  # a tmpfs without a limit
        return None
    for entry in entries(folder, run_name, None) if run_name else ():
        with contextlib.suppress(OSError):
            free_bytes += entry.path.lstat().st_blocks * 512
    if free_bytes >= needed_bytes:
        return None
    found = f"{folder}: {_mib(free_bytes)} of {_mib(total_bytes)} MiB free, host memory needs {_mib(needed_bytes)} MiB"
    if total_bytes < needed_bytes:
        gib = -(-2 * needed_bytes >> 30)
        advice = f"in a container, docker run --shm-size={gib}g (its default is 64 MB), else remount it larger"
    else:
        advice = "remove what dead programs left there"
    return f"{found}: {advice}, or set commit.host_memory: off"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f}"
