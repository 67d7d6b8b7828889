"""Names in the folder of a run's commits. What is not named like this is never touched.

    commits/step-000000120-1a2b3c4d/                    a commit; the digits tell attempts at the same step apart
        stage-0.shard-1-of-4.safetensors                a part of a stage's state, written by one worker
        stage-0.shard-1-of-4.safetensors.4711.writing   the same, not safe yet
        stage-0.shard-1-of-4.failed                     why it will not come
        manifest.json                                   written last: with it the commit counts
    commits/damaged-step-000000120-1a2b3c4d/            a commit that could not be used, set aside

This module knows names, not contents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

MANIFEST = "manifest.json"

_COMMIT = re.compile(r"(?P<aside>damaged-)?step-(?P<step>\d{9,18})-(?P<digest>[0-9a-f]{8})", re.ASCII)
_SHARD = re.compile(r"stage-(?P<stage>\d{1,4})\.shard-(?P<number>\d{1,7})-of-(?P<of>\d{1,7})", re.ASCII)
_TENSORS, _FAILED = ".safetensors", ".failed"
_WRITING = re.compile(r"(?P<target>.+)\.\d+\.writing", re.ASCII)


class Key(NamedTuple):
    """Which attempt at which step; the name of a commit's folder."""

    step: int
    digest: str
    set_aside: bool = False

    @property
    def name(self) -> str:
        return f"{'damaged-' if self.set_aside else ''}step-{self.step:09d}-{self.digest}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """What `name` wrote; None when this is no commit's folder."""
        match = _COMMIT.fullmatch(name)
        return cls(int(match["step"]), match["digest"], bool(match["aside"])) if match else None


class Shard(NamedTuple):
    """A part of a stage's state: number 1 to `of`."""

    stage: int
    number: int
    of: int

    def __str__(self) -> str:
        return f"stage-{self.stage}.shard-{self.number}-of-{self.of}"

    @property
    def name(self) -> str:
        return f"{self}{_TENSORS}"

    @property
    def failed(self) -> str:
        """The note that is left when it cannot be written."""
        return f"{self}{_FAILED}"

    @classmethod
    def parse(cls, name: str, suffix: str = _TENSORS) -> Self | None:
        """What `name` wrote; None when this is no shard's file."""
        match = _SHARD.fullmatch(name.removesuffix(suffix)) if name.endswith(suffix) else None
        shard = cls(int(match["stage"]), int(match["number"]), int(match["of"])) if match else None
        return shard if shard and f"{shard}{suffix}" == name and 1 <= shard.number <= shard.of else None


class Place(NamedTuple):
    """Whose part of a commit: member `member` of `stage`; `groups` are the numbers of members of all stages."""

    stage: int
    member: int
    groups: tuple[int, ...]

    @classmethod
    def alone(cls, stage: int, stages: int) -> Self:
        """Of a worker that writes the whole of its stage."""
        return cls(stage, 0, (1,) * stages)

    @property
    def leads(self) -> bool:
        """Whether this is who writes the manifest."""
        return self.stage == 0 and self.member == 0


def is_ours(name: str) -> bool:
    """Whether a file in a commit's folder is one that a commit consists of, or a trace of its being written."""
    writing = _WRITING.fullmatch(name)
    name = writing["target"] if writing else name
    return name == MANIFEST or bool(Shard.parse(name) or Shard.parse(name, _FAILED))


def choose(names: Iterable[str], groups: Sequence[int]) -> tuple[list[Shard], list[Shard]]:
    """The shards of a commit among `names`, and those that are missing, stage by stage.

    A stage is cut as the shards that are there say (the finest cut that is whole, else the one that lacks least), or
    into one for each member as long as none is there: with fewer tensors than members there are fewer shards.
    """
    found = [shard for name in names if (shard := Shard.parse(name))]
    chosen: list[Shard] = []
    missing: list[Shard] = []
    for stage, members in enumerate(groups):
        cuts = {shard.of for shard in found if shard.stage == stage} or {members}
        best = min(cuts, key=lambda of: (of - sum(s.stage == stage and s.of == of for s in found), -of))
        for number in range(1, best + 1):
            shard = Shard(stage, number, best)
            (chosen if shard in found else missing).append(shard)
    return chosen, missing
