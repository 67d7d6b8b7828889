"""What commits there are, one row for each, whatever tier keeps them. Does not know how rows are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ft_horovod.commit import folder as folders
from ft_horovod.commit.folder import Found
from ft_horovod.commit.host_files import SHM, mapped
from ft_horovod.commit.host_memory_folder import find, hosts_of
from ft_horovod.commit.host_slices import Slice, newest_whole
from ft_horovod.core.errors import CommitError


class CommitRow(msgspec.Struct, frozen=True, kw_only=True):
    """One commit, as one holder keeps it. Whole as far as was looked when there is no `problem`."""

    tier: str
    step: int
    holder: str  # a host, or a folder
    shards: tuple[int, ...] = ()  # of each stage; () when that is not known
    size_bytes: int
    age_s: float
    problem: str | None = None


def on_disk(commits: Path, now: float, *, contents: bool) -> list[CommitRow]:
    """The commits in a folder, newest first; with `contents` every byte is read. Raises OSError."""
    rows = []
    for found in folders.scan(commits):
        with contextlib.suppress(FileNotFoundError):  # a run that goes on may remove it meanwhile
            rows.append(_row(found, now, contents=contents))
    return rows


def in_host_memory(run_name: str, now: float, *, contents: bool, memory: Path = SHM) -> list[CommitRow]:
    """What this machine's memory holds of a run, a row for each host and step, newest first."""
    slices = [one for host in hosts_of(memory, run_name) for one in find(memory, run_name, host)]
    states: dict[tuple[str, int], list[Slice]] = {}
    for one in slices:
        states.setdefault((one.host, one.meta.step), []).append(one)
    return [_memory_row(states[key], now, contents=contents) for key in sorted(states, key=lambda k: (-k[1], k[0]))]


def _memory_row(slices: list[Slice], now: float, *, contents: bool) -> CommitRow:
    problem = None if newest_whole(slices, slices[0].meta.identity) else "only a part of it is here"
    try:
        for one in slices if contents and problem is None else ():
            mapped(one)
    except CommitError as error:
        problem = str(error)
    stages = range(max(one.meta.stages for one in slices))
    return CommitRow(
        tier="host memory",
        step=slices[0].meta.step,
        holder=slices[0].host,
        shards=tuple(sum(one.meta.stage == stage for one in slices) for stage in stages),
        size_bytes=4 * sum(one.meta.elements for one in slices),
        age_s=max(0.0, now - max(one.header.written_at_s for one in slices)),
        problem=problem,
    )


def _row(found: Found, now: float, *, contents: bool) -> CommitRow:
    manifest, problem = found.manifest, found.problem
    written_at = manifest.written_at if manifest else found.path.stat().st_mtime
    if found.key.set_aside:
        problem = problem or "set aside: it could not be used when the run was resumed"
    elif contents and problem is None:
        try:
            folders.check(found)
        except CommitError as error:
            problem = str(error)
    return CommitRow(
        tier="disk",
        step=found.key.step,
        holder=f"{found.path.parent.name}/{found.path.name}",
        shards=manifest.shards if manifest else (),
        size_bytes=folders.size_bytes(found.path),
        age_s=max(0.0, now - written_at),
        problem=problem,
    )


def cut_in_words(shards: Sequence[int]) -> str:
    """Stages and the shards of each, as 2 x 3, or 2 x 2-3 when not all have as many."""
    if not shards:
        return "-"
    least, most = min(shards), max(shards)
    return f"{len(shards)} x {most}" if least == most else f"{len(shards)} x {least}-{most}"
