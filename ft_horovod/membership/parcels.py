"""State on its way from one worker to others: a connection for each target, and memory straight into it.

A wait for a worker that is lost ends when the group is known to be broken, or when the connection does.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

import torch

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.identity import WorkerId

_LOOK_S = 0.05  # between looks whether the group is broken
_BUFFER_BYTES = 4 << 20
Reach = Callable[[WorkerId, str], socket.socket | None]


class Parcels:
    """One worker's end of all transfers."""

    def __init__(self, broken: Callable[[], bool]):
        """`broken()`: whether the group does not hold any more."""
        self._broken = broken
        self._changed = threading.Condition()
        self._waiting: dict[tuple[WorkerId, str], socket.socket] = {}

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """A source has connected."""
        with self._changed:
            self._waiting[peer, purpose] = connection
            self._changed.notify_all()

    def open(self, epoch: int) -> None:
        """Purposes begin with their epoch; what came for earlier ones and was not wanted is let go."""
        with self._changed:
            stale = [key for key in self._waiting if not key[1].startswith(f"{epoch}.")]
            for key in stale:
                self._waiting.pop(key).close()

    def send(self, state: torch.Tensor, targets: Sequence[WorkerId], purpose: str, reach: Reach) -> None:
        """Bring the state to all targets at once. Raises WorkersLost."""
        memory = _memory(state.cpu() if state.is_cuda else state)
        failed: list[WorkerId] = []

        def one(target: WorkerId) -> None:
            if not self._send_to(reach(target, purpose), memory):
                failed.append(target)

        threads = [threading.Thread(target=one, args=(target,), daemon=True) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise WorkersLost(f"{failed[0]} did not take its state")

    def receive(self, state: torch.Tensor, source: WorkerId, purpose: str) -> None:
        """Overwrite the state with the source's. Raises WorkersLost."""
        host = torch.empty_like(state, device="cpu") if state.is_cuda else state
        self._receive(_memory(host), source, purpose)
        if state.is_cuda:
            state.copy_(host)

    def _send_to(self, connection: socket.socket | None, memory: memoryview) -> bool:
        if connection is None:
            return False
        with connection:
            _prepare(connection)
            sent = 0
            while sent < len(memory):
                try:
                    sent += connection.send(memory[sent:])
                except TimeoutError:
                    if self._broken():
                        return False
                except OSError:
                    return False
        return True

    def _receive(self, memory: memoryview, source: WorkerId, purpose: str) -> None:
        with self._changed:
            while (source, purpose) not in self._waiting:
                if self._broken():
                    raise WorkersLost(f"{source} does not bring its state")
                self._changed.wait(_LOOK_S)
            connection = self._waiting.pop((source, purpose))
        with connection:
            _prepare(connection)
            got = 0
            while got < len(memory):
                count = -1
                with contextlib.suppress(TimeoutError):
                    count = _receive_into(connection, memory[got:])
                if count == 0 or (count < 0 and self._broken()):
                    raise WorkersLost(f"{source} was lost while it sent its state")
                got += max(0, count)


def _memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _receive_into(connection: socket.socket, memory: memoryview) -> int:
    """Bytes received; 0 at the end, however it came."""
    try:
        return connection.recv_into(memory)
    except TimeoutError:
        raise
    except OSError:
        return 0


def _prepare(connection: socket.socket) -> None:
    connection.settimeout(_LOOK_S)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
