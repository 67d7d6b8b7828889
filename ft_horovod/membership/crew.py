"""What `Control` tells those who work on its connections."""

from __future__ import annotations

import socket
from typing import Protocol

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.wire import Stored


class Crew(Protocol):
    """What is told; by the control thread but for `arrived`, which comes from a thread of its own."""

    def called(self) -> None:
        """A peer waits for this worker to come to the next round, and nobody is lost."""
        ...

    def broken(self) -> None:
        """Somebody is lost. Like `called`, with `Control.changed` held, and perhaps several times."""
        ...

    def stored(self, item: Stored) -> None:
        """A peer has put something into its store."""
        ...

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """A peer brings something on a connection of its own."""
        ...

    def tick(self) -> None:
        """Now and then."""
        ...
