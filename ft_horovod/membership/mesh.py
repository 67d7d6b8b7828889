"""Control connections: one TCP connection between every two workers, and a thread that listens to all of them.

The kernel closes a process's connections when it dies, however it dies, so its peers read end-of-file at once.
Keep-alives and a limit on unanswered data end the connections to a host that is gone. A connection that ended is not
made anew: the other end is lost for good.

This module knows connections and messages, not what they mean.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.rounds import Member
from ft_horovod.membership.wire import Anything, Unpacker, WireError, be_greeted, greet, packed

_GREETING_S = 5.0  # how long one may take to prove that it belongs to the job
_STRANGERS = 128  # proving it at once; more are hung up on
_SILENT_MS = 3000  # sent and not acknowledged by the other host's kernel: it is gone
_TICK_S = 0.02
_READ_BYTES = 1 << 18


class Listener(Protocol):
    """Told by the mesh's thread, one thing at a time."""

    def linked(self, peer: WorkerId) -> None: ...

    def received(self, peer: WorkerId, message: Anything) -> None: ...

    def lost(self, peer: WorkerId) -> None: ...

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """A connection for a transfer; called by a thread of its own."""
        ...

    def tick(self) -> None:
        """Now and then."""
        ...


class _Link:
    """One connection; `unsent` is guarded by `lock`."""

    def __init__(self, peer: WorkerId, connection: socket.socket):
        self.peer, self.connection = peer, connection
        self.unpacker = Unpacker()
        self.lock = threading.Lock()
        self.unsent = bytearray()

    def send(self, data: bytes) -> None:
        """Send what the kernel takes, keep the rest; errors are the reader's business."""
        with self.lock:
            self.unsent += data
            with contextlib.suppress(OSError):
                del self.unsent[: self.connection.send(self.unsent)]


class Mesh:
    """One worker's connections."""

    def __init__(self, me: WorkerId, secret: bytes, host: str, listener: Listener):
        """Listens on `host`, the address of an interface of the job."""
        self.me, self._secret, self._listener = me, secret, listener
        self._links: dict[WorkerId, _Link] = {}
        self._fresh: list[_Link] = []  # not yet in the selector
        self._closing = False
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._strangers = threading.Semaphore(_STRANGERS)
        self._door = socket.create_server((host, 0), backlog=256)
        self._door.setblocking(False)
        self.address = f"{host}:{self._door.getsockname()[1]}"
        self._alarm, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        os.register_at_fork(after_in_child=partial(_hang_up, weakref.ref(self)))

    def start(self) -> None:
        self._thread.start()

    def linked(self, peer: WorkerId) -> bool:
        return peer in self._links

    def send(self, peer: WorkerId, message: Anything) -> None:
        """To a peer, if there is a connection."""
        link = self._links.get(peer)
        if link is not None:
            link.send(packed(message))

    def dial(self, peer: Member, within_s: float) -> bool:
        """Make the control connection to a peer; False when it cannot be made."""
        connection = self._dial(peer, "", within_s)
        if connection is not None:
            self._add(peer.worker, connection)
        return connection is not None

    def dial_transfer(self, peer: Member, purpose: str, within_s: float) -> socket.socket | None:
        """A connection for a transfer, blocking; None when it cannot be made."""
        return self._dial(peer, purpose, within_s)

    def drop(self, peer: WorkerId) -> None:
        """Give up a peer: its connection ends, for both, after what was sent."""
        link = self._links.get(peer)
        if link is not None:
            with contextlib.suppress(OSError):
                link.connection.shutdown(socket.SHUT_RDWR)

    def close(self, within_s: float = 1.0) -> None:
        """Send what is to be sent, and hang up."""
        give_up = time.monotonic() + within_s
        for link in list(self._links.values()):
            while link.unsent and time.monotonic() < give_up:
                link.send(b"")
                time.sleep(0.001)
        self._closing = True
        self._ring()
        self._thread.join(within_s)

    # -- making connections --------------------------------------------------------------------------------------

    def _dial(self, peer: Member, purpose: str, within_s: float) -> socket.socket | None:
        host, _, port = peer.address.rpartition(":")
        connection = None
        try:
            connection = socket.create_connection((host, int(port)), within_s)
            greet(connection, self._secret, self.me, peer.worker, purpose)
        except (OSError, ValueError, WireError):
            if connection is not None:
                connection.close()
            return None
        return connection

    def _add(self, peer: WorkerId, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_MS)
        link = _Link(peer, connection)
        with self._lock:
            if self._closing or peer in self._links:  # or somebody is there under that name already
                connection.close()
                return
            self._links[peer] = link
            self._fresh.append(link)
        self._listener.linked(peer)
        self._ring()

    def _welcome(self, connection: socket.socket) -> None:
        """A thread of its own for each who comes: proving who one is may take as long as it takes."""
        try:
            connection.settimeout(_GREETING_S)
            peer, purpose = be_greeted(connection, self._secret, self.me)
            if purpose:
                self._listener.arrived(peer, purpose, connection)
            else:
                self._add(peer, connection)
        except (OSError, WireError):
            connection.close()
        finally:
            self._strangers.release()

    # -- the thread ----------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        with contextlib.suppress(OSError):
            self._alarm.send(b"!")

    def _run(self) -> None:
        self._selector.register(self._door, selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        while not self._closing:
            with self._lock:
                fresh, self._fresh = self._fresh, []
            for link in fresh:
                self._selector.register(link.connection, selectors.EVENT_READ, link)
            for key, _ in self._selector.select(_TICK_S):
                if key.data is not None:
                    self._read(key.data)
                elif key.fileobj is self._door:
                    self._open_door()
                else:
                    with contextlib.suppress(OSError):
                        self._bell.recv(4096)
            for link in list(self._links.values()):
                if link.unsent:
                    link.send(b"")
            self._listener.tick()
        with self._lock:
            for link in self._links.values():
                link.connection.close()
        for end in (self._door, self._alarm, self._bell, self._selector):
            end.close()

    def _open_door(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._door.accept()
            if self._strangers.acquire(blocking=False):
                threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()
            else:
                connection.close()

    def _read(self, link: _Link) -> None:
        try:
            data = link.connection.recv(_READ_BYTES)
            messages = link.unpacker.feed(data)
        except BlockingIOError:
            return
        except (OSError, WireError):
            data, messages = b"", []
        for message in messages:
            self._listener.received(link.peer, message)
        if not data:
            self._selector.unregister(link.connection)
            link.connection.close()
            del self._links[link.peer]
            self._listener.lost(link.peer)


def _hang_up(reference: weakref.ref[Mesh]) -> None:
    """In a forked child, say of a data loader: it must not keep connections open that the kernel is to close."""
    mesh = reference()
    if mesh is not None:
        for link in mesh._links.values():
            link.connection.close()
        mesh._door.close()


def dial_all(dial: Callable[[Member, float], bool], peers: list[Member], within_s: float) -> list[Member]:
    """Dial several at once; returns those that could not be reached."""
    failed: list[Member] = []

    def one(peer: Member) -> None:
        if not dial(peer, within_s):
            failed.append(peer)

    threads = [threading.Thread(target=one, args=(peer,), daemon=True) for peer in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed
