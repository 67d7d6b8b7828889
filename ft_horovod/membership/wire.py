"""What goes over a control connection: frames, and the proof that the other end knows the job's secret.

A frame is four bytes of length and a msgpack text; nothing is ever unpickled. Whoever dials and whoever is dialled both
prove, by an HMAC over the other's fresh nonce, that they know the secret, before anything else is read. What follows is
not signed: an attacker who can write into an established connection is not kept out.

This module knows bytes, not sockets' lives.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct

import msgspec

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.rounds import Accept, Contribute, Decided, Propose, Wake

_LENGTH = struct.Struct("!I")
_FRAME_BYTES = 64 << 20
_GREETING_BYTES = 4096  # a stranger may send this much
_NONCE_BYTES = 32


class Knock(msgspec.Struct, frozen=True, tag="knock"):
    """A newcomer is ready to be let in."""

    address: str


class Dismissal(msgspec.Struct, frozen=True, tag="dismissal"):
    """The receiver is not needed any more, or was given up."""


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """A key of the store over which Gloo's ends find each other, in one epoch."""

    epoch: int
    key: str
    value: bytes


Anything = Wake | Contribute | Propose | Accept | Decided | Knock | Dismissal | Stored

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Anything).decode


class WireError(Exception):
    """The other end does not speak this protocol, or does not know the secret."""


class Greeting(msgspec.Struct, frozen=True):
    """The dialler's first frame. `purpose`: empty for control, else the name of a transfer."""

    worker: WorkerId
    purpose: str
    nonce: bytes
    proof: bytes


_greeting = msgspec.msgpack.Decoder(Greeting)


def packed(message: Anything) -> bytes:
    """A frame."""
    text = _encode(message)
    return _LENGTH.pack(len(text)) + text


class Unpacker:
    """Frames out of a stream."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Anything]:
        """The messages that are complete with `data`. Raises WireError."""
        self._held += data
        found = []
        while len(self._held) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._held)
            if length > _FRAME_BYTES:
                raise WireError(f"a message of {length} bytes")
            if len(self._held) < _LENGTH.size + length:
                break
            try:
                found.append(_decode(bytes(self._held[_LENGTH.size : _LENGTH.size + length])))
            except (msgspec.DecodeError, ValueError) as error:
                raise WireError(f"not a message: {error}") from error
            del self._held[: _LENGTH.size + length]
        return found


def greet(connection: socket.socket, secret: bytes, me: WorkerId, peer: WorkerId, purpose: str = "") -> None:
    """The dialler's part. The socket must have a time limit. Raises WireError, OSError."""
    theirs, mine = _receive(connection, _NONCE_BYTES), secrets.token_bytes(_NONCE_BYTES)
    proof = _proof(secret, b"dial", theirs, mine, f"{me} {peer} {purpose}")
    text = _encode(Greeting(me, purpose, mine, proof))
    connection.sendall(_LENGTH.pack(len(text)) + text)
    answer = _receive(connection, len(proof))
    if not hmac.compare_digest(answer, _proof(secret, b"answer", mine, theirs, f"{peer} {me} {purpose}")):
        raise WireError(f"{peer} does not know the secret")


def be_greeted(connection: socket.socket, secret: bytes, me: WorkerId) -> tuple[WorkerId, str]:
    """The other part; returns who it is and what for. Raises WireError, OSError."""
    mine = secrets.token_bytes(_NONCE_BYTES)
    connection.sendall(mine)
    (length,) = _LENGTH.unpack(_receive(connection, _LENGTH.size))
    if length > _GREETING_BYTES:
        raise WireError(f"a greeting of {length} bytes")
    try:
        greeting = _greeting.decode(_receive(connection, length))
    except (msgspec.DecodeError, ValueError) as error:
        raise WireError(f"not a greeting: {error}") from error
    peer, purpose, theirs = greeting.worker, greeting.purpose, greeting.nonce
    if not hmac.compare_digest(greeting.proof, _proof(secret, b"dial", mine, theirs, f"{peer} {me} {purpose}")):
        raise WireError(f"{peer} does not know the secret")
    connection.sendall(_proof(secret, b"answer", theirs, mine, f"{me} {peer} {purpose}"))
    return peer, purpose


def _proof(secret: bytes, part: bytes, asked: bytes, own: bytes, names: str) -> bytes:
    return hmac.digest(secret, b"\0".join((b"ft-horovod control 1", part, asked, own, names.encode())), "sha256")


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise WireError("the other end hung up")
        data += more
    return data
