"""The job's rendezvous: a store of keys and values that the launcher's process keeps, spoken to over HTTP.

It is Horovod's own (`RendezvousServer`): horovodrun's driver has one. Workers find each other's addresses there, and
nothing else about the run is decided by it. This module knows keys, not what they mean.
"""

from __future__ import annotations

import http.client
import time
import urllib.parse

from ft_horovod.core.errors import RendezvousLost

_POLL_S = 0.02
_LONGEST_POLL_S = 0.3
_REQUEST_S = 10.0
_TRIES = 3


class KeyStore:
    """One scope of the store."""

    def __init__(self, host: str, port: int, scope: str):
        self._host, self._port, self._scope = host, port, scope

    def put(self, key: str, value: bytes) -> None:
        """Raises RendezvousLost."""
        self._request("PUT", key, value)

    def get(self, key: str) -> bytes | None:
        """The value, or None. Raises RendezvousLost."""
        return self._request("GET", key, None)

    def wait(self, key: str, within_s: float) -> bytes | None:
        """The value once it is there; None when it is not there in time. Raises RendezvousLost."""
        give_up, pause_s = time.monotonic() + within_s, _POLL_S
        while (value := self.get(key)) is None and time.monotonic() < give_up:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_POLL_S)  # many may wait for the slowest
        return value

    def _request(self, method: str, key: str, body: bytes | None) -> bytes | None:
        path = f"/{self._scope}/{urllib.parse.quote(key, safe='')}"
        problem = ""
        for _ in range(_TRIES):
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_REQUEST_S)
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                value = answer.read()
                if answer.status in (200, 404):
                    return value if answer.status == 200 else None
                problem = f"it answers {answer.status}"
            except (OSError, http.client.HTTPException) as error:
                problem = str(error)
            finally:
                connection.close()
            time.sleep(_POLL_S)
        raise RendezvousLost(f"the rendezvous at {self._host}:{self._port} cannot be used: {problem}")
