"""Scenes of the contract suite with newcomers: invited, let in, or lost on the way.

A newcomer knows its fate by its incarnation: it has no other way to know which scene it is in.
"""

from __future__ import annotations

import time

import torch
from contract_player import Player
from contract_scenes import Cast, Outcome, Scene

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import place
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.protocol import Facts

HEALTHY = 1
DIES_AT_ONCE = 2
DIES_WHEN_READY = 3
DIES_WHEN_IN = 4

_SLOT = 100  # beyond anybody's that was there from the start
_COMES_WITHIN_S = 60.0
_STATE = 7.0


def _invite(player: Player, cast: Cast, *fates: int) -> tuple[WorkerId, ...]:
    """Everybody invites newcomers and comes up again as before; slots differ from scene to scene."""
    first = _SLOT + 10 * player.scene
    newcomers = tuple(WorkerId(cast[0].host, first + i, fate) for i, fate in enumerate(fates))
    player.state = torch.full((8,), _STATE)
    player.regroup()
    player.membership.invite(newcomers)
    player.form(place(cast, len(cast)))
    return newcomers


def _sum_until_ready(player: Player, within_s: float) -> bool:
    """Go on as ever until the first of the cast sees that the newcomers are ready, or for so long."""
    assert player.layout is not None
    player.welcomes = True
    give_up = time.monotonic() + within_s
    ready = total = 0.0
    while total == 0:
        if player.me == player.layout.members[0]:
            ready = 1.0 if player.membership.newcomers_ready() else 1000.0 * (time.monotonic() > give_up)
        total = player.sum(ready)
        time.sleep(0.01)
    return total == 1


def welcome(player: Player, facts: Facts) -> None:
    """Facts with newcomers in them, or without: form with all and give the newcomers the state."""
    if player.me.incarnation == DIES_WHEN_IN:
        player.die()
    old = [report.worker for report in facts.reports if report.layout is not None]
    new = tuple(worker for worker in facts.workers if worker not in old)
    player.form(place(facts.workers, len(facts.workers)), [Transfer(0, old[0], new)] if new else [])
    player.value("state", float(player.state.min()))
    player.value("members", player.sum(1.0))


def newcomers_come_in(player: Player, cast: Cast) -> None:
    _invite(player, cast, HEALTHY, HEALTHY)
    player.value("inviting", player.membership.inviting)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    welcome(player, player.regroup())
    player.value("still inviting", player.membership.inviting)


def check_newcomers_come_in(outcome: Outcome) -> None:
    n = len(outcome.cast) + 2
    assert len(outcome.notes) == n
    for notes in outcome.notes.values():
        assert notes.values["members"] == n
        assert notes.values["state"] == _STATE
        assert notes.lost_in == []
    for number in range(n - 2):
        assert outcome.of(number).values["inviting"]
        assert not outcome.of(number).values["still inviting"]


def newcomer_dies_at_once(player: Player, cast: Cast) -> None:
    """It is never ready; the group goes on, and later loses somebody: that must still be handled."""
    _invite(player, cast, HEALTHY, DIES_AT_ONCE)
    assert not _sum_until_ready(player, player.patience_s)
    if player.me == cast[-1]:
        player.die()
    with player.losing("sum"):
        player.sum(1.0)


def newcomer_dies_when_ready(player: Player, cast: Cast) -> None:
    """It is called in, and is not there any more."""
    _invite(player, cast, DIES_WHEN_READY)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    time.sleep(player.patience_s)
    with player.losing("welcome"):
        welcome(player, player.regroup())


def newcomer_dies_when_in(player: Player, cast: Cast) -> None:
    """It is one of the group already, and dies before the group has come up."""
    _invite(player, cast, DIES_WHEN_IN)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    with player.losing("welcome"):
        welcome(player, player.regroup())


def inviters_lose_somebody(player: Player, cast: Cast) -> None:
    """Before the newcomer is let in, which it is all the same."""
    _invite(player, cast, HEALTHY)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    if player.me == cast[-1]:
        player.die()
    with player.losing("sum"):
        player.sum(1.0)
    welcome(player, player.regroup())


def check_inviters_lose_somebody(outcome: Outcome) -> None:
    assert all(outcome.of(number).lost_in == ["sum"] for number in range(len(outcome.cast) - 1))


def host_is_lost(player: Player, cast: Cast) -> None:
    """Whoever invited the newcomer dies before it is let in: it ends, and does not wait for good."""
    _invite(player, cast, HEALTHY)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    if player.me == cast[0]:
        player.die()
    with player.losing("sum"):
        player.sum(1.0)


def check_host_is_lost(outcome: Outcome) -> None:
    assert all(outcome.of(number).lost_in == ["sum"] for number in range(1, len(outcome.cast)))


def dies_before_inviting(player: Player, cast: Cast) -> None:
    """All have the facts, and one dies before it invites: the others do not wait for it, and the newcomer comes."""
    player.regroup()
    if player.me == cast[-1]:
        player.die()
    with player.losing("form"):
        player.membership.invite([WorkerId(cast[0].host, _SLOT + 10 * player.scene, HEALTHY)])
        player.form(place(cast, len(cast)))
    _welcome_when_ready(player)


def dies_while_inviting(player: Player, cast: Cast) -> None:
    """In the middle of starting newcomers."""
    player.regroup()
    if player.me == cast[-1]:
        player.die_in(player.patience_s / 100)
    with player.losing("form or sum"):
        player.membership.invite([WorkerId(cast[0].host, _SLOT + 10 * player.scene, HEALTHY)])
        player.form(place(cast, len(cast)))
        while True:
            player.sum(1.0)
    _welcome_when_ready(player)


def _welcome_when_ready(player: Player) -> None:
    """Those who are left come up, go on until the newcomer is ready, and let it in."""
    player.settle()
    player.state = torch.full((8,), _STATE)
    assert _sum_until_ready(player, _COMES_WITHIN_S)
    welcome(player, player.regroup())


def check_dies_before_inviting(outcome: Outcome) -> None:
    assert all(outcome.of(number).lost_in == ["form"] for number in range(len(outcome.cast) - 1))


SCENES = (
    Scene(newcomers_come_in, check_newcomers_come_in, comes=True),
    Scene(newcomer_dies_at_once, dies=(-1,)),
    Scene(newcomer_dies_when_ready),
    Scene(newcomer_dies_when_in),
    Scene(inviters_lose_somebody, check_inviters_lose_somebody, dies=(-1,), comes=True),
    Scene(host_is_lost, check_host_is_lost, dies=(0,)),
    Scene(dies_while_inviting, dies=(-1,), comes=True),
    Scene(dies_before_inviting, check_dies_before_inviting, dies=(-1,), comes=True),
)
