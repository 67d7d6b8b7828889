"""Frames and greetings: what a stranger, or a cut, can do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.rounds import Accepted, Contribute, Decided, Member, Outcome, Said, Wake
from ft_horovod.membership.wire import (
    Anything,
    Dismissal,
    Knock,
    Stored,
    Unpacker,
    WireError,
    be_greeted,
    greet,
    packed,
)

ONE, OTHER = WorkerId("here", 1), WorkerId("there", 2, 3)
SAID = Said(Member(ONE, "127.0.0.1:1"), "facts", b"\x00\xff", opens=True)
OUTCOME = Outcome(4, (SAID,), (Member(OTHER, "10.0.0.1:2"),))
MESSAGES: list[Anything] = [
    Wake(4, alarm=True),
    Contribute(4, SAID, Accepted((1, 0), OUTCOME)),
    Decided(4, OUTCOME),
    Knock("127.0.0.1:3"),
    Dismissal(),
    Stored(1, "/global/0", b"\x00"),
]


@given(cuts=st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_out_however_the_stream_is_cut(cuts: list[int]) -> None:
    stream = b"".join(map(packed, MESSAGES))
    unpacker, found, cut = Unpacker(), list[Anything](), 0
    while stream:
        size = cuts[cut % len(cuts)]
        found += unpacker.feed(stream[:size])
        stream, cut = stream[size:], cut + 1
    assert found == MESSAGES


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", struct.pack("!I", 3) + b"abc", struct.pack("!I", 1) + b"\x80"])
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Unpacker().feed(data)


def meet(dialler: Callable[[socket.socket], object], secret: bytes = b"secret") -> tuple[object, BaseException | None]:
    """What the one that is dialled gets, and what the dialler raises."""
    near, far = socket.socketpair()
    problem: list[BaseException] = []

    def dial() -> None:
        with near:
            near.settimeout(5)
            try:
                dialler(near)
            except (OSError, WireError) as error:
                problem.append(error)

    thread = threading.Thread(target=dial)
    thread.start()
    found: object = None
    with far:
        far.settimeout(5)
        try:
            found = be_greeted(far, secret, OTHER)
        except (OSError, WireError) as error:
            found = error
    thread.join(10)
    return found, problem[0] if problem else None


def test_those_who_know_the_secret_meet() -> None:
    found, problem = meet(lambda end: greet(end, b"secret", ONE, OTHER, "1.0"))
    assert found == (ONE, "1.0")
    assert problem is None


def test_a_wrong_secret_is_refused_by_both() -> None:
    found, problem = meet(lambda end: greet(end, b"guess", ONE, OTHER))
    assert isinstance(found, WireError)
    assert isinstance(problem, WireError)


def test_a_greeting_for_somebody_else_is_refused() -> None:
    found, _ = meet(lambda end: greet(end, b"secret", ONE, WorkerId("elsewhere", 9)))
    assert isinstance(found, WireError)


def test_a_stranger_may_not_say_much() -> None:
    def dialler(end: socket.socket) -> None:
        assert len(end.recv(32)) == 32
        end.sendall(struct.pack("!I", 1 << 20))

    found, _ = meet(dialler)
    assert isinstance(found, WireError)
    assert "1048576" in str(found)


def test_a_server_that_echoes_the_proof_is_found_out() -> None:
    """A peer that does not know the secret cannot answer with what it was sent."""
    near, far = socket.socketpair()

    def echo() -> None:
        with far:
            far.sendall(b"n" * 32)
            far.sendall(far.recv(4096)[-32:])

    thread = threading.Thread(target=echo)
    thread.start()
    with near:
        near.settimeout(5)
        with pytest.raises(WireError, match="does not know the secret"):
            greet(near, b"secret", ONE, OTHER)
    thread.join(10)
