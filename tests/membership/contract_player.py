"""One worker on the stage of the contract suite: a membership, a way to die, and notes of what it saw.

A scene is a function of a `Player`; the same scenes are played by threads and by real processes. This module knows how
a player acts and what it writes down, not which backend it plays on.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import msgspec
import torch

from ft_horovod.core.errors import MembershipError
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, place
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.protocol import Facts, Membership, Progress, Report

SHOW_STACK = signal.SIGUSR1  # tells a player that is a process to print where it is
SUM_LIMIT_S = 20.0  # rule 4: every wait ends
_POLL_S = 0.0005


class Heard(msgspec.Struct, frozen=True):
    """Facts as one player got them; `digest` covers every report, word for word."""

    epoch: int
    workers: tuple[str, ...]
    digest: str


class Notes(msgspec.Struct):
    """What one player saw in one scene."""

    worker: str
    cast: tuple[str, ...] = ()  # who was there when the scene began
    facts: list[Heard] = []
    lost_in: list[str] = []  # the calls that raised MembershipError
    values: dict[str, float] = {}
    ended: bool = False  # came to the end of the scene, or was let go in it
    problem: str = ""


def notes_path(folder: Path, scene: int, worker: WorkerId) -> Path:
    """Where a player that is a process leaves its notes of a scene."""
    return folder / f"scene-{scene}-{worker.slot}-{worker.incarnation}.json"


@dataclass
class Player:
    """One worker of a scene."""

    membership: Membership
    die: Callable[[], NoReturn]
    die_in: Callable[[float], None]  # after so many seconds, wherever this player is then
    save: Callable[[Notes], None]
    scene: int = 0
    layout: Layout | None = None
    left: bool = False
    welcomes: bool = False  # newcomers may come in now, and not in the middle of something else
    patience_s: float = 0.1  # how long a newcomer needs to come up, about
    state: torch.Tensor = field(default_factory=lambda: torch.zeros(8))

    def __post_init__(self) -> None:
        self.me = self.membership.me
        self.notes = Notes(str(self.me))

    def perform(self, scene: int, play: Callable[[Player, tuple[WorkerId, ...]], None], met: Facts | None) -> None:
        """One scene from its beginning, when all have settled, to its end. `met` is what `meet` said just before."""
        self.scene, self.notes, self.welcomes = scene, Notes(str(self.me)), False
        if met is not None:
            self._note_facts(met)
        cast = self.settle()
        self.notes.cast = tuple(map(str, cast))
        self.save(self.notes)
        play(self, cast)
        self.finish()

    def join(self, met: Facts, welcome: Callable[[Player, Facts], None]) -> None:
        """A newcomer takes part in the scene that the others are in."""
        self.scene, self.notes = max(report.progress.act for report in met.reports), Notes(str(self.me))
        self._note_facts(met)
        with self.losing("welcome"):
            welcome(self, met)
        self.finish()

    def finish(self) -> None:
        """The end of a scene."""
        if not self.left:
            self.settle()
        self.notes.ended = True
        self.save(self.notes)

    # -- the protocol, with notes --------------------------------------------------------------------------------

    def meet(self) -> Facts:
        return self.membership.meet(self._report())

    def regroup(self) -> Facts:
        return self._note_facts(self.membership.regroup(self._report()))

    def form(self, layout: Layout, transfers: Sequence[Transfer] = ()) -> None:
        self.membership.form(layout, transfers, lambda _: self.state)
        self.layout = layout

    def sum(self, mine: float, name: str = "sum") -> float:
        """Sum a number over the members. Raises MembershipError."""
        source, target = torch.full((4,), mine), torch.zeros(4)
        handle = self.membership.sum_into(name, source, target)
        give_up = time.monotonic() + SUM_LIMIT_S
        while not handle.done():
            assert time.monotonic() < give_up, "a sum does not end"
            time.sleep(_POLL_S)
        return float(target[0])

    def stand_by(self) -> NoReturn:
        self.membership.stand_by(lambda: None)
        raise AssertionError("stand_by returned")

    @contextmanager
    def losing(self, what: str) -> Iterator[None]:
        """Notes a MembershipError that ends the body."""
        try:
            yield
        except MembershipError:
            self.notes.lost_in.append(what)
            self.save(self.notes)

    def settle(self, spares: int = 0) -> tuple[WorkerId, ...]:
        """Regroup, as often as it takes, until all who live are in this scene and have summed something.

        When somebody is in the next scene already this one is over. Returns who takes part.
        """
        while True:
            facts = self.regroup()
            scenes = [report.progress.act for report in facts.reports]
            if max(scenes) > self.scene:
                return facts.workers
            if min(scenes) < self.scene:
                continue
            layout = place(facts.workers, len(facts.workers) - spares)
            with self.losing("settle"):
                self.form(layout)
                if self.me in layout.members:
                    self.value("settled", self.sum(1.0))
                return facts.workers

    def value(self, name: str, value: float) -> None:
        self.notes.values[name] = float(value)
        self.save(self.notes)

    def await_death(self) -> NoReturn:
        """Somebody whose time is running out does nothing until then."""
        give_up = time.monotonic() + SUM_LIMIT_S
        while time.monotonic() < give_up:
            _ = self.membership.broken_at  # in memory, the dead notice here
            time.sleep(_POLL_S)
        raise AssertionError(f"{self.me} was to die")

    def _report(self) -> Report:
        return Report(
            worker=self.me,
            progress=Progress(act=self.scene),
            layout=self.layout,
            newcomers_ready=self.welcomes and self.membership.newcomers_ready(),
        )

    def _note_facts(self, facts: Facts) -> Facts:
        digest = hashlib.sha256(msgspec.json.encode(facts.reports)).hexdigest()
        self.notes.facts.append(Heard(facts.epoch, tuple(map(str, facts.workers)), digest))
        self.save(self.notes)
        return facts
