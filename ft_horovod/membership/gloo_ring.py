"""Horovod over Gloo, brought up and down in this process, once an epoch.

Horovod is told its rank and where to look for its peers by environment variables, and looks into this process's own
`GlooStore`. Nothing in here waits for a peer that is lost: whoever hears of the loss calls `interrupt`, again and again
until Horovod is down, and every operation and connection of Gloo's in this process fails at once. This module does not
know who is lost, nor how that is heard of.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from itertools import chain

import horovod.torch as hvd
import torch
from horovod.torch import mpi_ops

from ft_horovod.core.errors import ConfigError, WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.membership.gloo_store import GlooStore
from ft_horovod.membership.horovod_sums import forget_sums, start_sum
from ft_horovod.membership.limits import or_exit
from ft_horovod.membership.protocol import Handle

_STUCK_S = 2.0  # how long Horovod's thread may take to end once it is interrupted
_PEACEFUL_S = 60.0  # the same when nothing failed: peers may be in a step
_START_S = 300.0  # others may still carry state
_GLOO_TIMEOUT_S = 30  # Gloo's own, the last resort


class GlooRing:
    """Horovod on the members of a layout."""

    def __init__(self, publish: Callable[[int, str, bytes], None], interface: str):
        """`interface`: the network interface that Gloo is to use, by name."""
        library = mpi_ops._basics.MPI_LIB_CTYPES
        if not hasattr(library, "horovod_gloo_interrupt"):
            raise ConfigError("this Horovod cannot be interrupted: install the patched one, see ft-horovod doctor")
        self._interrupt: Callable[[], int] = library.horovod_gloo_interrupt
        self._interface = interface
        self._lock = threading.Lock()  # between an interruption, and the next Horovod, which it is not meant for
        self._up = False
        self._broken_at: float | None = None
        self.interrupted = False
        self.store = GlooStore(publish)

    @property
    def broken_at(self) -> float | None:
        """When it was first known that a peer is lost or has left, on the monotonic clock."""
        return self._broken_at

    def open(self, epoch: int) -> None:
        """A new epoch; nothing is broken yet."""
        self._broken_at, self.interrupted = None, False
        self.store.open(epoch)

    def part(self) -> None:
        """A peer has left the ring in peace: what is under way may end, and nothing new begins. By any thread."""
        if self._broken_at is None:
            self._broken_at = time.monotonic()

    def interrupt(self) -> None:
        """A peer is lost: let everything that is under way fail. May be called by any thread."""
        self.part()
        self.interrupted = True
        self.store.give_up()
        self.interrupt_again()

    def failed(self) -> None:
        """Gloo has heard of a loss first; the others on this process's connections may wait for it."""
        self.interrupt()

    def interrupt_again(self) -> None:
        """To be called now and then: Horovod may have made new connections since it was interrupted."""
        with self._lock:
            if self._up and self.interrupted:
                self._interrupt()

    def up(self, me: WorkerId, layout: Layout) -> None:
        """Bring Horovod up, together with all members. Raises WorkersLost."""
        os.environ.update(environment(me, layout, self.store.port, self._interface))
        with self._lock:
            self._up = True
        try:
            with or_exit(_START_S):
                hvd.init()  # fails at once when it is known that somebody is lost
        except ValueError as error:
            raise WorkersLost("somebody was lost while Horovod started") from error
        if self.interrupted:
            raise WorkersLost("somebody was lost while Horovod started")

    def down(self) -> None:
        """Take Horovod down; a thread of it that cannot end takes this process with it, so that nobody waits."""
        if not self._up:
            return
        with or_exit(_STUCK_S if self.interrupted else _PEACEFUL_S):
            hvd.shutdown()
        with self._lock:
            self._up = False
        forget_sums()

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Membership.sum_into`."""
        return start_sum(self, name, source, target)


def environment(me: WorkerId, layout: Layout, port: int, interface: str) -> Mapping[str, str]:
    """Horovod's variables for one member. It wants the ranks of a host to be neighbours."""
    hosts: dict[str, list[WorkerId]] = {}
    for member in layout.members:
        hosts.setdefault(member.host, []).append(member)
    here = hosts[me.host]
    across = [host for host, members in hosts.items() if len(members) > here.index(me)]
    return {
        "HOROVOD_RANK": str(list(chain.from_iterable(hosts.values())).index(me)),
        "HOROVOD_SIZE": str(len(layout.members)),
        "HOROVOD_LOCAL_RANK": str(here.index(me)),
        "HOROVOD_LOCAL_SIZE": str(len(here)),
        "HOROVOD_CROSS_RANK": str(across.index(me.host)),
        "HOROVOD_CROSS_SIZE": str(len(across)),
        "HOROVOD_HOSTNAME": me.host,
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": "127.0.0.1",
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_IFACE": interface,
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(_GLOO_TIMEOUT_S),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_ELASTIC": "0",  # else Horovod asks the driver for its new rank by itself
    }
