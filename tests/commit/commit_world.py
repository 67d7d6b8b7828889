"""Workers that commit, each with its own part in it, in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ft_horovod.commit.disk import DiskCommits, Done
from ft_horovod.commit.folder import Found, Retention
from ft_horovod.commit.manifest import Stamp
from ft_horovod.commit.names import Place
from ft_horovod.commit.writer import Outcome

IDENTITY = "a test"
SIZES = (6, 4, 1, 9)  # of a stage's tensors; the second one has two dimensions


def stamp(step: int, progress: bytes = b"{}", identity: str = IDENTITY) -> Stamp:
    return Stamp(step, progress, identity, seed=7)


def views(flat: torch.Tensor, stage: int = 0) -> dict[str, torch.Tensor]:
    """Named in an order that is not the alphabet's."""
    parts = flat.split(list(SIZES))
    named = {f"stage{stage}.{letter}": part for letter, part in zip("dbca", parts, strict=True)}
    named[f"stage{stage}.b"] = parts[1].view(2, 2)
    return named


def state(value: float = 0.0, stage: int = 0) -> torch.Tensor:
    return torch.arange(sum(SIZES), dtype=torch.float32) + value + 1000 * stage


@dataclass
class Team:
    """Members of groups of these sizes, stage by stage, that commit to one folder."""

    folder: Path
    groups: tuple[int, ...] = (1,)
    retention: Retention = field(default_factory=lambda: Retention(2))
    patience_s: float = 10.0
    outcomes: dict[Place, Outcome] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = [
            Place(stage, member, self.groups) for stage, size in enumerate(self.groups) for member in range(size)
        ]
        self.disks = {place: DiskCommits(self.folder, self.retention, self.patience_s) for place in self.places}

    @property
    def leader(self) -> DiskCommits:
        return self.disks[self.places[0]]

    @property
    def outcome(self) -> Outcome:
        """How the commit ended, as its leader says."""
        return self.outcomes[self.places[0]]

    def commit(self, step: int, value: float = 0.0, *, but: Sequence[Place] = (), progress: bytes = b"{}") -> Found:
        """All write at once, except some; gives what is there then."""
        for place in self.places:
            if place not in but:
                flat = state(value, place.stage)
                self.disks[place].begin(stamp(step, progress), place, flat, views(flat, place.stage), self._book(place))
                flat.fill_(-1)  # training goes on
        for disk in self.disks.values():
            disk.wait()
        return next(found for found in self.leader.found() if found.key == stamp(step, progress).key)

    def _book(self, place: Place) -> Done:
        def done(_: float, outcome: Outcome) -> None:
            self.outcomes[place] = outcome

        return done


def read(disk: DiskCommits, commit: Found, stage: int = 0) -> torch.Tensor:
    into = torch.full((sum(SIZES),), 7.0)
    disk.load(commit, views(into, stage))
    return into


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
