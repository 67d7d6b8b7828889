"""Soak of the commit tiers: all members of a run are killed at random moments of a commit, hundreds of times.

    .venv/bin/python benchmarks/commit_soak.py --kills 500

Each life has one to four members, which commit every step to host memory and to disk. After each death the newest
commit of both tiers is read back and held, bit for bit, against the state of the step it says. One that loads wrong, or
is older than the last step that all had whole, is a defect. The next life goes on from the newest.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import msgspec
import torch
from commit_member import ELEMENTS, HOST, IDENTITY, Life, live, named, state_of
from common import RESULTS, console, machine_facts, write_result
from rich.table import Table

from ft_horovod.commit import folder as folders
from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.host_files import SHM, mapped
from ft_horovod.commit.host_memory import load
from ft_horovod.commit.host_memory_folder import find, remove
from ft_horovod.commit.host_slices import Slice, newest_whole
from ft_horovod.core.errors import CommitError

_SILENT_S = 30.0


class Tally(msgspec.Struct):
    """What was found after the deaths of all lives."""

    deaths: int = 0
    kills: int = 0
    commits: int = 0
    wrong: int = 0
    too_old: int = 0
    unusable: int = 0  # damaged copies that were noticed and passed over
    stuck: int = 0
    newer: int = 0  # commits that were whole although not all had said so yet


def main() -> None:
    """Kill, read back, tell."""
    options = _parse()
    facts, tally, rng = machine_facts(), Tally(), random.Random(options.seed)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="ft-horovod-commits-") as place:
        run, commits = f"soak-{os.getpid()}", Path(place) / "commits"
        try:
            _lives(options.kills, rng, run, commits, tally)
        finally:
            remove(SHM, run)
    write_result(options.out, facts, vars(options), tally=tally)
    table = Table("", "", title="All members killed in the middle of commits")
    for name, value in msgspec.structs.asdict(tally).items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console().print(table)
    if tally.wrong or tally.too_old or tally.stuck:
        sys.exit("a commit was wrong or lost")


def _lives(kills: int, rng: random.Random, run: str, commits: Path, tally: Tally) -> None:
    had, kept, number = (0, 0), (), 0  # the newest step in memory and on disk, and where it lies in memory
    while tally.kills < kills:
        number += 1
        life = Life(number, max(had), rng.randint(1, 4), run, commits, kept if had[0] >= had[1] else ())
        confirmed = _one_life(life, rng, tally)
        kept = _in_memory(life, tally)
        have = kept[0].meta.step if kept else 0, _on_disk(life, tally)
        for before, found in zip(had, have, strict=True):
            least = confirmed if confirmed > life.step else before
            tally.too_old += found < least
            tally.newer += found > least
        had = have


def _one_life(life: Life, rng: random.Random, tally: Tally) -> int:
    """Run members until they are killed; returns the last step of which all said that they have it whole."""
    pipes = [(os.pipe(), os.pipe()) for _ in range(life.members)]
    children = []
    for me, ((go, _), (_, told)) in enumerate(pipes):
        pid = os.fork()
        if pid == 0:
            for (_, parent_go), (parent_told, _) in pipes:
                os.close(parent_go)
                os.close(parent_told)
            try:
                live(life, me, go, told)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(1)
        children.append(pid)
    confirmed = life.step
    for _ in range(rng.randint(0, 3)):
        _begin(pipes)
        if not _all_said(pipes):
            tally.stuck += 1
            break
        confirmed += 1
        tally.commits += 1
    _begin(pipes)
    for pid in rng.sample(children, len(children)):
        time.sleep(rng.uniform(0, 0.012))
        os.kill(pid, signal.SIGKILL)
        tally.kills += 1
    for pid in children:
        os.waitpid(pid, 0)
    for (go, parent_go), (parent_told, told) in pipes:
        for fd in (go, parent_go, parent_told, told):
            os.close(fd)
    tally.deaths += 1
    return confirmed


def _begin(pipes: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    for (_, parent_go), _ in pipes:
        os.write(parent_go, b".")


def _all_said(pipes: list[tuple[tuple[int, int], tuple[int, int]]]) -> bool:
    for _, (parent_told, _) in pipes:
        ready, _, _ = select.select([parent_told], [], [], _SILENT_S)
        if not ready or not os.read(parent_told, 1):
            return False
    return True


def _in_memory(life: Life, tally: Tally) -> tuple[Slice, ...]:
    """The newest state in host memory, checked against what it must be."""
    slices = find(SHM, life.run, HOST)
    while chosen := newest_whole(slices, IDENTITY):
        try:
            for one in chosen:
                mapped(one)
            found = torch.empty(ELEMENTS)
            load(chosen, found)
        except CommitError:
            tally.unusable += 1
            slices = [one for one in slices if one not in chosen]
            continue
        meta = chosen[0].meta
        tally.wrong += not torch.equal(found, state_of(meta.step, int(meta.progress)))
        return chosen
    return ()


def _on_disk(life: Life, tally: Tally) -> int:
    """The newest step on disk, checked likewise."""
    disk = DiskCommits(life.folder, Retention(2))
    for commit in disk.found():
        try:
            folders.check(commit)
        except CommitError:
            tally.unusable += 1
            continue
        assert commit.manifest is not None
        found = torch.empty(ELEMENTS)
        disk.load(commit, named(found))
        tally.wrong += not torch.equal(found, state_of(commit.key.step, int(commit.manifest.progress)))
        return commit.key.step
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=500, help="go on until so many members were killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "commit-soak.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
