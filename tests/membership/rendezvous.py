"""A rendezvous as horovodrun's driver keeps one: Horovod's own, on this machine only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer


@contextmanager
def rendezvous() -> Iterator[int]:
    """The port it listens on."""
    server = RendezvousHTTPServer(("127.0.0.1", 0), RendezvousHandler, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
