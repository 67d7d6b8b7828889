"""Horovod over one MPI communicator, brought up and down in this process.

The loss of a peer is known from the error handler that Horovod's communicators inherit: it runs in Horovod's background
thread the moment an MPI call there fails.
"""

from __future__ import annotations

import time

import horovod.torch as hvd
import torch
from mpi4py import MPI

from ft_horovod.core.layout import Layout
from ft_horovod.membership.horovod_sums import forget_sums, start_sum
from ft_horovod.membership.limits import or_exit
from ft_horovod.membership.protocol import Handle

_STUCK_S = 2.0  # how long Horovod's thread may take to end once its communicator is revoked
_PEACEFUL_S = 60.0  # the same when nothing failed: peers may be in a step


class HorovodRing:
    """Horovod on the members' communicator."""

    def __init__(self) -> None:
        self._up = False
        self._broken_at: float | None = None
        self._comm = MPI.Intracomm(MPI.COMM_NULL)
        self.on_error = MPI.Comm.Create_errhandler(self._heard)

    def _heard(self, comm: MPI.Comm, code: int) -> None:
        """Runs wherever MPI failed, mostly in Horovod's thread: remember, and wake the peers."""
        self.failed()
        comm.Revoke()

    def failed(self) -> None:
        """Horovod does not work any more."""
        if self._broken_at is None:
            self._broken_at = time.monotonic()

    @property
    def broken_at(self) -> float | None:
        """When an MPI call under Horovod failed first, on the monotonic clock."""
        return self._broken_at

    def build(self, comm: MPI.Intracomm, layout: Layout) -> None:
        """Take the members' communicator; Horovod builds its own from it, in `up`."""
        comm.Set_errhandler(self.on_error)
        self._comm = comm

    def up(self) -> None:
        """Bring Horovod up. When a peer dies meanwhile the ring is broken, and the first sum says so."""
        self._broken_at = None
        self._up = True
        try:
            hvd.init(comm=self._comm)
        except ValueError:
            self._broken_at = time.monotonic()

    def down(self) -> None:
        """Take Horovod down; a thread of it that cannot end takes this process with it, so that nobody waits."""
        if not self._up:
            return
        with or_exit(_STUCK_S if self._broken_at is not None else _PEACEFUL_S):
            hvd.shutdown()
        forget_sums()
        self._up = False

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """Start a sum; `target` may be written until the handle is done or Horovod is down."""
        return start_sum(self, name, source, target)
