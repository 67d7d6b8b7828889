"""State on its way: what arrives, and how a wait ends when it does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import torch

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.parcels import Parcels

SOURCE, TARGET = WorkerId("here", 0), WorkerId("here", 1)
LARGE = 8 << 20  # numbers: more than any socket's buffer


def connected(target: Parcels) -> tuple[Callable[[WorkerId, str], socket.socket], list[socket.socket]]:
    """How the source reaches the target; and the source's ends."""
    ends: list[socket.socket] = []

    def reach(_worker: WorkerId, purpose: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        target.arrived(SOURCE, purpose, theirs)
        ends.append(ours)
        return ours

    return reach, ends


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (LARGE,)])
def test_a_state_arrives_whole(shape: tuple[int, ...]) -> None:
    sender, receiver = Parcels(lambda: False), Parcels(lambda: False)
    reach, _ = connected(receiver)
    state, copy = torch.randn(shape), torch.zeros(shape)
    thread = threading.Thread(target=sender.send, args=(state, [TARGET], "1.0", reach))
    thread.start()
    receiver.receive(copy, SOURCE, "1.0")
    thread.join(10)
    assert copy.equal(state)


def test_transfers_of_one_source_are_told_apart() -> None:
    sender, receiver = Parcels(lambda: False), Parcels(lambda: False)
    reach, _ = connected(receiver)
    first, second = torch.zeros(4), torch.zeros(4)
    sender.send(torch.full((4,), 1.0), [TARGET], "1.0", reach)
    sender.send(torch.full((4,), 2.0), [TARGET], "1.1", reach)
    receiver.receive(second, SOURCE, "1.1")
    receiver.receive(first, SOURCE, "1.0")
    assert (first[0], second[0]) == (1, 2)


def test_a_source_that_dies_on_the_way_is_lost() -> None:
    receiver = Parcels(lambda: False)
    reach, _ = connected(receiver)
    with reach(TARGET, "1.0") as end:
        end.sendall(b"half")
    with pytest.raises(WorkersLost, match="while it sent"):
        receiver.receive(torch.zeros(100), SOURCE, "1.0")


def test_nobody_waits_for_a_source_when_the_group_is_broken() -> None:
    with pytest.raises(WorkersLost, match="does not bring"):
        Parcels(lambda: True).receive(torch.zeros(1), SOURCE, "1.0")


def test_a_source_that_stops_does_not_hold_up_a_broken_group() -> None:
    broken = threading.Event()
    receiver = Parcels(broken.is_set)
    reach, _ = connected(receiver)
    with reach(TARGET, "1.0"):
        threading.Timer(0.1, broken.set).start()
        with pytest.raises(WorkersLost, match="while it sent"):
            receiver.receive(torch.zeros(100), SOURCE, "1.0")


def test_a_target_that_takes_nothing_does_not_hold_up_a_broken_group() -> None:
    broken = threading.Event()
    receiver, sender = Parcels(lambda: False), Parcels(broken.is_set)
    reach, _ = connected(receiver)
    threading.Timer(0.1, broken.set).start()
    with pytest.raises(WorkersLost, match="did not take"):
        sender.send(torch.zeros(LARGE), [TARGET], "1.0", reach)
    receiver.open(2)  # lets go of what nobody took


def test_a_target_that_cannot_be_reached_is_lost() -> None:
    with pytest.raises(WorkersLost, match="here:1 did not take"):
        Parcels(lambda: False).send(torch.zeros(1), [TARGET], "1.0", lambda _worker, _purpose: None)
