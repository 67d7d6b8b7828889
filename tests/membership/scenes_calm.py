"""Scenes of the contract suite in which nobody dies."""

from __future__ import annotations

import time

import torch
from contract_player import Player
from contract_scenes import MOMENT_S, Cast, Outcome, Scene

from ft_horovod.core.layout import place
from ft_horovod.core.recovery import Transfer


def all_meet(player: Player, cast: Cast) -> None:
    """The first scene: all who were started are there. The suite's `meet` comes before it."""
    player.value("number", cast.index(player.me))


def check_all_meet(outcome: Outcome) -> None:
    assert list(outcome.cast) == sorted(outcome.cast, key=lambda name: int(name.rpartition(":")[2]))
    for notes in outcome.notes.values():
        assert notes.facts[0].epoch == 0
        assert notes.facts[0].workers == outcome.cast
        assert notes.lost_in == []


def all_sum(player: Player, cast: Cast) -> None:
    """Several sums at once, of several types; what is summed is not touched."""
    mine = float(cast.index(player.me) + 1)
    sources = {
        "a": torch.full((1000,), mine),
        "b": torch.full((1,), mine / 3, dtype=torch.float64),
        "c": torch.arange(7.0),
    }
    targets = {name: torch.full_like(source, -1.0) for name, source in sources.items()}
    handles = [player.membership.sum_into(name, sources[name], targets[name]) for name in sources]
    give_up = time.monotonic() + 20
    while handles and time.monotonic() < give_up:
        handles = [handle for handle in handles if not handle.done()]
    for name, target in targets.items():
        player.value(name, float(target[-1]))
    player.value("spread", float(targets["a"].max() - targets["a"].min()))
    player.value("untouched", bool((sources["a"] == mine).all()))


def check_all_sum(outcome: Outcome) -> None:
    n = len(outcome.cast)
    for notes in outcome.notes.values():
        assert notes.lost_in == []
        assert notes.values["a"] == n * (n + 1) / 2
        assert abs(notes.values["b"] - n * (n + 1) / 6) < 1e-12
        assert notes.values["c"] == 6 * n
        assert notes.values["spread"] == 0
        assert notes.values["untouched"]


def state_reaches_its_targets(player: Player, cast: Cast) -> None:
    """Two transfers, one after the other; whoever is no target keeps what it has."""
    player.state = torch.arange(100.0) + 1000 * cast.index(player.me)
    player.regroup()
    player.form(place(cast, len(cast)), [Transfer(0, cast[1], (cast[0],)), Transfer(0, cast[0], (cast[2],))])
    player.value("from", float(player.state[0]) / 1000)
    player.value("whole", (player.state - player.state[0]).equal(torch.arange(100.0)))
    player.value("members", player.sum(1.0))


def check_state_reaches_its_targets(outcome: Outcome) -> None:
    n = len(outcome.cast)
    assert [outcome.of(i).values["from"] for i in range(n)] == [1, 1, 1, *range(3, n)]
    for notes in outcome.notes.values():
        assert notes.lost_in == []
        assert notes.values["whole"]
        assert notes.values["members"] == n


def spare_is_called(player: Player, _cast: Cast) -> None:
    """A spare stands by while the others sum without it, and hears it when they regroup."""
    cast = player.settle(spares=1)
    if player.me == cast[-1]:
        with player.losing("stand_by"):
            player.stand_by()
        return
    for i in range(5):
        player.value("members", player.sum(1.0, f"sum {i}"))
    time.sleep(MOMENT_S)


def check_spare_is_called(outcome: Outcome) -> None:
    assert outcome.of(-1).lost_in == ["stand_by"]
    for number in range(len(outcome.cast) - 1):
        assert outcome.of(number).lost_in == []
        assert outcome.of(number).values["members"] == len(outcome.cast) - 1


def one_leaves(player: Player, cast: Cast) -> None:
    """Who is not in the layout hands over and is let go; the others go on."""
    player.state = torch.full((8,), float(cast.index(player.me)))
    player.regroup()
    player.form(place((cast[0], *cast[2:]), len(cast) - 1), [Transfer(0, cast[1], (cast[0],))])
    player.left = player.me == cast[1]
    if not player.left:
        player.value("members", player.sum(1.0))
        player.value("from", float(player.state[-1]))


def check_one_leaves(outcome: Outcome) -> None:
    assert outcome.of(0).values["from"] == 1
    assert outcome.of(2).values["from"] == 2
    assert all(notes.lost_in == [] for notes in outcome.notes.values())
    assert all(outcome.of(i).values["members"] == len(outcome.cast) - 1 for i in (0, 2))


SCENES = (
    Scene(all_meet, check_all_meet),
    Scene(all_sum, check_all_sum),
    Scene(state_reaches_its_targets, check_state_reaches_its_targets),
    Scene(spare_is_called, check_spare_is_called),
    Scene(one_leaves, check_one_leaves, leaves=(1,)),
)
