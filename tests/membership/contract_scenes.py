"""The scenes of the contract suite: what happens to a group, and what each of its workers must have seen.

A scene begins with all settled in one layout (`cast`, in a stable order) and ends with the survivors settled anew.
Everybody runs `play`; `check` judges the notes of all afterwards. Which backend it was is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from contract_player import Heard, Notes, Player

from ft_horovod.core.identity import WorkerId

Cast = tuple[WorkerId, ...]

MOMENT_S = 0.15  # long enough for the others to be where the scene wants them


@dataclass(frozen=True)
class Outcome:
    """The notes of everybody who was in a scene, dead or alive, by name."""

    notes: Mapping[str, Notes]

    @property
    def cast(self) -> tuple[str, ...]:
        """Who was there when the scene began; all must agree."""
        casts = {notes.cast for notes in self.notes.values() if notes.cast}
        assert len(casts) == 1, f"not one cast: {casts}"
        return next(iter(casts))

    def of(self, number: int) -> Notes:
        return self.notes[self.cast[number]]

    def names(self, numbers: tuple[int, ...]) -> set[str]:
        return {self.cast[number] for number in numbers}


def _nothing_more(_outcome: Outcome) -> None:
    """The rules are all there is to check."""


@dataclass(frozen=True)
class Scene:
    """Numbers are places in the cast, from the end when negative."""

    play: Callable[[Player, Cast], None]
    check: Callable[[Outcome], None] = _nothing_more
    dies: tuple[int, ...] = ()
    leaves: tuple[int, ...] = ()
    comes: bool | None = False  # whether newcomers come in; None: they may, or end outside
    workers: int = 3  # how many it needs at the least

    @property
    def name(self) -> str:
        return self.play.__name__

    def judge(self, outcome: Outcome) -> None:
        """The rules of `Membership`, and what the scene is about. Raises AssertionError."""
        problems = {worker: notes.problem for worker, notes in outcome.notes.items() if notes.problem}
        assert not problems, problems
        ended = {worker for worker, notes in outcome.notes.items() if notes.ended}
        dead, gone = outcome.names(self.dies), outcome.names(self.leaves)
        assert ended & set(outcome.cast) == set(outcome.cast) - dead, "who of the cast came to the end"
        assert self.comes is None or self.comes == bool(ended - set(outcome.cast)), "whether newcomers came in"
        together = {worker: outcome.notes[worker].facts[-1] for worker in ended - gone}
        assert len({facts.digest for facts in together.values()}) == 1, "the last facts of the survivors"
        assert set(next(iter(together.values())).workers) == set(together), "who is still there"
        assert all(outcome.notes[worker].values["settled"] == len(together) for worker in together)
        _same_facts_for_all(outcome)
        self.check(outcome)


def _same_facts_for_all(outcome: Outcome) -> None:
    """Rule 1, for everybody who got facts, those who died later too."""
    said: dict[int, Heard] = {}
    for notes in outcome.notes.values():
        epochs = [facts.epoch for facts in notes.facts]
        assert epochs == sorted(set(epochs)), f"{notes.worker}: epochs only grow"
        for facts in notes.facts:
            assert said.setdefault(facts.epoch, facts) == facts, f"epoch {facts.epoch}: not the same for all"
        for before, after in pairwise(notes.facts):
            stayed = [worker for worker in before.workers if worker in after.workers]
            assert list(after.workers[: len(stayed)]) == stayed, f"{notes.worker}: a stable order, newcomers last"
