"""A member of `commit_soak.py`: a forked process that commits, step after step, and may be killed at any byte.

It copies its slice to host memory and writes its shard to disk as a worker does, told by the parent when all members
have whole copies of the step before.
"""

from __future__ import annotations

import os
import sys
import threading
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.host_files import Place as HostPlace
from ft_horovod.commit.host_memory import HostMemory
from ft_horovod.commit.host_slices import Meta, Slice
from ft_horovod.commit.manifest import Stamp
from ft_horovod.commit.names import Place
from ft_horovod.commit.writer import Outcome

ELEMENTS, TENSORS = 200_000, 16
IDENTITY, HOST = "commit soak", "soak"


class Life(NamedTuple):
    """One start of all members: the step they go on from, and how many they are.

    `kept`: the slices in memory that they go on from, when that is where the newest state is.
    """

    number: int
    step: int
    members: int
    run: str
    folder: Path
    kept: tuple[Slice, ...] = ()


def state_of(step: int, life: int) -> torch.Tensor:
    """What the state is at a step: another one in each life, as a step that is done again is."""
    return torch.arange(ELEMENTS, dtype=torch.float32) * 1e-3 + step + 1000 * life


def named(flat: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"t{place:02d}": part for place, part in enumerate(flat.chunk(TENSORS))}


def live(life: Life, me: int, go: int, told: int) -> None:
    """Commit until killed: a byte from `go` begins each step, a byte to `told` says that both copies are whole."""
    keep = next((one for one in life.kept if one.slot == me), None)
    place = HostPlace(life.run, HOST, me)
    memory = HostMemory(place, -(-ELEMENTS // life.members), keep=keep, chunk_bytes=64 << 10)
    disk = DiskCommits(life.folder, Retention(2), patience_s=10.0)
    if me == 0:
        disk.clear_above(life.step, IDENTITY)
    for step in count(life.step + 1):
        if not os.read(go, 1):
            return
        state = state_of(step, life.number)
        begin, end = (ELEMENTS * part // life.members for part in (me, me + 1))
        progress = str(life.number).encode()  # for the check afterwards; a real run's is the same after a restart
        memory.confirm()  # all have said that the step before is whole, or this is the first
        memory.begin(
            Meta(
                act=step,
                step=step,
                begin=begin,
                end=end,
                total=ELEMENTS,
                identity=IDENTITY,
                progress=progress,
                origin=(life.number, 0),
            ),
            state[begin:end],
        )
        written = threading.Event()

        def done(_: float, outcome: Outcome, written: threading.Event = written) -> None:
            if outcome.problem is None:
                written.set()
            else:
                print(outcome.problem, file=sys.stderr)

        stamp = Stamp(step, progress, IDENTITY, 0)
        disk.begin(stamp, Place(0, me, (life.members,)), state, named(state), done)
        memory.settle()
        disk.wait()
        if memory.error is not None:
            print(memory.error, file=sys.stderr)
        if memory.error is not None or not written.is_set():
            return
        os.write(told, b".")
