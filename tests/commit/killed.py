"""A process that commits and is killed while it does: `killed.py COMMITS STEP PHASE MEMBER MEMBERS ELEMENTS`.

PHASE is `shard` or `manifest`: just before the file gets its name; else it writes all and ends.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from commit_world import stamp

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.names import MANIFEST, Place


def contents(step: int, elements: int) -> dict[str, torch.Tensor]:
    """What the state of a step is: two halves of a flat tensor."""
    flat = torch.arange(elements, dtype=torch.float32).mul_(step)
    return {"b": flat[: elements // 2], "a": flat[elements // 2 :]}


def main() -> None:
    commits, step, phase, member, members, elements = sys.argv[1:]

    def hook(name: str) -> None:
        if phase == ("manifest" if name == MANIFEST else "shard"):
            os.kill(os.getpid(), signal.SIGKILL)

    disk = DiskCommits(Path(commits), Retention(2), hook=hook)
    named = contents(int(step), int(elements))
    flat = torch.cat([named["b"], named["a"]])
    place = Place(0, int(member), (int(members),))
    disk.begin(
        stamp(int(step)), place, flat, dict(zip(named, flat.split(len(flat) // 2), strict=True)), lambda *_: None
    )
    disk.wait()


if __name__ == "__main__":
    main()
