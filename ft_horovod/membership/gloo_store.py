"""The store over which Gloo's ends find each other: in each process its own, spoken to by Horovod over HTTP.

What one process puts in is sent to all others over the control connections, so no death of another can take the store
away, and asking costs no network. A key that is not there yet is waited for. Once the group is known to be broken every
question gets an empty answer, which Gloo cannot use: hvd.init then fails at once instead of waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

_WAIT_S = 300.0  # for others who still carry state; a loss ends the wait


class GlooStore:
    """Keys and values of one epoch, and the server that Horovod asks."""

    def __init__(self, publish: Callable[[int, str, bytes], None]):
        """`publish(epoch, key, value)` sends what this process put in to the others."""
        self._publish = publish
        self._changed = threading.Condition()
        self._values: dict[int, dict[str, bytes]] = {}
        self._epoch = -1
        self._broken = False
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="gloo-store", daemon=True)
        self._thread.start()

    def open(self, epoch: int) -> None:
        """From here on it is about this epoch; what others have put in for it already is there."""
        with self._changed:
            self._epoch, self._broken = epoch, False
            self._values = {number: values for number, values in self._values.items() if number >= epoch}

    def put(self, epoch: int, key: str, value: bytes) -> None:
        """What another process has put in."""
        with self._changed:
            if epoch >= self._epoch:
                self._values.setdefault(epoch, {})[key] = value
                self._changed.notify_all()

    def give_up(self) -> None:
        """The group is broken: nobody is to wait for anything."""
        with self._changed:
            self._broken = True
            self._changed.notify_all()

    def asked(self, key: str) -> bytes:
        """Horovod asks: wait for the key. Empty when it will not come."""
        with self._changed:
            self._changed.wait_for(lambda: self._broken or key in self._values.get(self._epoch, {}), _WAIT_S)
            return b"" if self._broken else self._values.get(self._epoch, {}).get(key, b"")

    def told(self, key: str, value: bytes) -> None:
        """Horovod puts something in."""
        with self._changed:
            epoch = self._epoch
        self.put(epoch, key, value)
        self._publish(epoch, key, value)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        store = self

        class Handler(BaseHTTPRequestHandler):
            """Speaks what Horovod's HTTPStore speaks; one request a connection, one at a time."""

            def do_GET(self) -> None:
                self._answer(store.asked(self.path))

            def do_PUT(self) -> None:
                store.told(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(b"")

            def do_DELETE(self) -> None:
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
                """Not to stderr."""

        return Handler
