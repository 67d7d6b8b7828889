"""Host memory seen from outside: what a run left there, what there is room for, and removing it.

This module reads and removes files of `host_files`. It does not know torch: launchers and the command line use it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from ft_horovod.commit.host_files import SHM, entries, mapped, slices_in, still_there
from ft_horovod.commit.host_slices import Slice
from ft_horovod.core.errors import CommitError


class Row(NamedTuple):
    """One slice, or one file that cannot be used, for people to read."""

    host: str
    slot: int
    path: Path
    step: int | None = None
    stage: int | None = None
    begin: int = 0
    end: int = 0
    size_bytes: int = 0
    age_s: float | None = None
    problem: str | None = None
    tier: str = "host memory"


def find(folder: Path, run_name: str, host: str) -> list[Slice]:
    """All whole slices of a run on a host, newest first; what is damaged, foreign or being written is left out.

    Payloads are not checked: `host_memory.load` does.
    """
    found: list[Slice] = []
    for entry in entries(folder, run_name, host):
        if not entry.aside:
            with contextlib.suppress(OSError, CommitError):
                found += slices_in(entry)
    return sorted(found, key=lambda one: (-one.meta.act, -one.meta.step, one.slot, -one.header.sequence))


def rows(folder: Path, run_name: str, now_s: float) -> list[Row]:
    """What a run left on this machine, each payload checked; `now_s` is the Unix time."""
    found: list[Row] = []
    for entry in entries(folder, run_name, None):
        if entry.aside:
            continue
        plain = Row(entry.host, entry.slot, entry.path)
        try:
            slices = slices_in(entry)
        except (OSError, CommitError) as error:
            found.append(plain._replace(problem=str(error)))
            continue
        if not slices:
            found.append(plain._replace(problem=f"{entry.path}: holds no whole slice"))
        checked = [(one, _row(one, plain, now_s)) for one in sorted(slices, key=lambda one: -one.header.sequence)]
        found += [row for one, row in checked if row.problem is None or still_there(one)]  # a writer may go on
    return found


def _row(one: Slice, plain: Row, now_s: float) -> Row:
    problem = None
    try:
        mapped(one)
    except CommitError as error:
        problem = str(error)
    meta = one.meta
    return plain._replace(
        step=meta.step,
        stage=meta.stage,
        begin=meta.begin,
        end=meta.end,
        size_bytes=4 * meta.elements,
        age_s=max(0.0, now_s - one.header.written_at_s),
        problem=problem,
    )


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
