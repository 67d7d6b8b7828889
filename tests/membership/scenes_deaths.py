"""Scenes of the contract suite in which somebody dies: in every call of the protocol, and between them."""

from __future__ import annotations

import time

import torch
from contract_player import Player
from contract_scenes import MOMENT_S, Cast, Outcome, Scene

from ft_horovod.core.layout import place
from ft_horovod.core.recovery import Transfer

_LARGE = 16 << 20  # numbers of a state, 64 MiB: its transfer takes tens of milliseconds
_SUMS = 20


def _die_before_a_sum(player: Player, cast: Cast, *victims: int) -> None:
    """These die instead of handing in their part; everybody else must hear of it in that very sum."""
    if player.me in [cast[number] for number in victims]:
        player.die()
    with player.losing("sum"):
        player.sum(1.0)
    player.value("knows", player.membership.broken_at is not None)


def _heard_in_the_sum(outcome: Outcome, *victims: int) -> None:
    for name in set(outcome.cast) - outcome.names(victims):
        assert outcome.notes[name].lost_in == ["sum"]
        assert outcome.notes[name].values["knows"]


def backup_dies(player: Player, cast: Cast) -> None:
    _die_before_a_sum(player, cast, -1)


def leader_dies(player: Player, cast: Cast) -> None:
    _die_before_a_sum(player, cast, 0)


def two_die_at_once(player: Player, cast: Cast) -> None:
    _die_before_a_sum(player, cast, 0, -2)


def spare_dies(player: Player, _cast: Cast) -> None:
    """Members need not hear of it at once, but the next regroup must."""
    cast = player.settle(spares=1)
    if player.me == cast[-1]:
        player.die_in(MOMENT_S / 2)
        player.stand_by()
    give_up = time.monotonic() + MOMENT_S
    with player.losing("sum"):
        while time.monotonic() < give_up:
            player.sum(1.0)


def dies_while_others_regroup(player: Player, cast: Cast) -> None:
    """One dies; a second is missing when the others regroup, and dies while they wait for it."""
    if player.me == cast[-1]:
        player.die()
    with player.losing("sum"):
        player.sum(1.0)
    if player.me == cast[0]:
        time.sleep(MOMENT_S)
        player.die()


def dies_inside_regroup(player: Player, cast: Cast) -> None:
    if player.me == cast[1]:
        player.die_in(0.001)
        player.regroup()
        player.await_death()


def dies_before_form(player: Player, cast: Cast) -> None:
    """All have the facts, and one dies before it acts on them: `form` fails for everybody."""
    player.regroup()
    if player.me == cast[-1]:
        player.die()
    with player.losing("form"):
        player.form(place(cast, len(cast)))


def dies_while_others_form(player: Player, cast: Cast) -> None:
    player.regroup()
    if player.me == cast[0]:
        time.sleep(MOMENT_S)
        player.die()
    with player.losing("form"):
        player.form(place(cast, len(cast)))


def _all_lost_in_form(outcome: Outcome, *victims: int) -> None:
    for name in set(outcome.cast) - outcome.names(victims):
        assert outcome.notes[name].lost_in == ["form"]


def _die_in_a_transfer(player: Player, cast: Cast, victim: int) -> None:
    """From the first of the cast to all others; who has it whole has it right, and all hear of the death."""
    player.state = torch.full((_LARGE,), float(player.me == cast[0]))
    player.regroup()
    if player.me == cast[victim]:
        player.die_in(0.01)
        with player.losing("form"):
            player.form(place(cast, len(cast)), [Transfer(0, cast[0], cast[1:])])
        player.await_death()
    with player.losing("form or sum"):
        player.form(place(cast, len(cast)), [Transfer(0, cast[0], cast[1:])])
        player.value("whole", float(player.state.min()))
        for i in range(_SUMS):
            player.sum(1.0, f"sum {i}")
    player.state = torch.zeros(8)


def source_dies_in_a_transfer(player: Player, cast: Cast) -> None:
    _die_in_a_transfer(player, cast, 0)


def target_dies_in_a_transfer(player: Player, cast: Cast) -> None:
    _die_in_a_transfer(player, cast, -1)


def _all_lost_in_form_or_sum(outcome: Outcome, victim: int) -> None:
    for name in set(outcome.cast) - outcome.names((victim,)):
        assert outcome.notes[name].lost_in == ["form or sum"]
        assert outcome.notes[name].values.get("whole", 1.0) == 1.0


def dies_right_after_form(player: Player, cast: Cast) -> None:
    """The group has come up for the victim, perhaps not yet for all others."""
    player.regroup()
    with player.losing("form or sum"):
        player.form(place(cast, len(cast)))
        if player.me == cast[-1]:
            player.die()
        player.sum(1.0)


def dies_in_the_middle_of_sums(player: Player, cast: Cast) -> None:
    """Some have seen more sums end than others: never more than one."""
    if player.me == cast[0]:
        player.die_in(MOMENT_S / 3)
    done = 0
    with player.losing("sum"):
        while True:
            player.sum(1.0, f"sum {done % 2}")
            done += 1
            player.value("done", done)


def _at_most_one_sum_apart(outcome: Outcome) -> None:
    survivors = set(outcome.cast) - outcome.names((0,))
    done = [outcome.notes[name].values.get("done", 0) for name in survivors]
    assert max(done) - min(done) <= 1
    assert all(outcome.notes[name].lost_in == ["sum"] for name in survivors)


SCENES = (
    Scene(backup_dies, lambda outcome: _heard_in_the_sum(outcome, -1), dies=(-1,)),
    Scene(leader_dies, lambda outcome: _heard_in_the_sum(outcome, 0), dies=(0,)),
    Scene(two_die_at_once, lambda outcome: _heard_in_the_sum(outcome, 0, -2), dies=(0, -2), workers=4),
    Scene(spare_dies, dies=(-1,)),
    Scene(dies_while_others_regroup, dies=(0, -1), workers=4),
    Scene(dies_inside_regroup, dies=(1,)),
    Scene(dies_before_form, lambda outcome: _all_lost_in_form(outcome, -1), dies=(-1,)),
    Scene(dies_while_others_form, lambda outcome: _all_lost_in_form(outcome, 0), dies=(0,)),
    Scene(source_dies_in_a_transfer, lambda outcome: _all_lost_in_form_or_sum(outcome, 0), dies=(0,)),
    Scene(target_dies_in_a_transfer, lambda outcome: _all_lost_in_form_or_sum(outcome, -1), dies=(-1,)),
    Scene(dies_in_the_middle_of_sums, _at_most_one_sum_apart, dies=(0,)),
    Scene(dies_right_after_form, lambda outcome: _all_lost_in_form_or_sum(outcome, -1), dies=(-1,)),
)
