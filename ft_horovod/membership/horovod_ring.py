"""Horovod over one communicator, brought up and down in this process, and its sums without a wait that never ends.

Stock Horovod offers `synchronize`, which spins for good when a tensor was handed in while the background loop was
dying. Here a handle is polled, and the loss of a peer is known from the error handler that Horovod's communicators
inherit: it runs in Horovod's background thread the moment an MPI call there fails.
"""

from __future__ import annotations

import time

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from horovod.torch import mpi_ops
from mpi4py import MPI

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.layout import Layout
from ft_horovod.membership.limits import or_exit

_LOST_HANDLE_S = 0.05  # after the loss is known, how long a sum in flight may still complete
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
        if self._broken_at is None:
            self._broken_at = time.monotonic()
        comm.Revoke()

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
        mpi_ops._handle_map.clear()  # references of sums that will never complete
        self._up = False

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> _Sum:
        """Start a sum; `target` may be written until the handle is done or Horovod is down."""
        if self._broken_at is not None:
            raise WorkersLost("a peer died")
        try:
            # The public allreduce_async allocates its output anew each time, which costs a page fault for each 4 KiB.
            handle = mpi_ops._allreduce_async(source, target, name, hvd.Sum, 1.0, 1.0, hvd.global_process_set)
        except (HorovodInternalError, ValueError) as error:
            raise WorkersLost("Horovod is down") from error
        return _Sum(self, handle)

    def gave_up_on(self) -> bool:
        """True when a sum that has not completed yet never will."""
        return self._broken_at is not None and time.monotonic() - self._broken_at > _LOST_HANDLE_S


class _Sum:
    """See `Handle`."""

    def __init__(self, ring: HorovodRing, handle: int):
        self._ring, self._handle = ring, handle

    def done(self) -> bool:
        """See `Handle.done`."""
        if not mpi_ops.poll(self._handle):
            if self._ring.gave_up_on():
                raise WorkersLost("a peer died during the sum")
            return False
        try:
            mpi_ops.synchronize(self._handle)
        except (HorovodInternalError, ValueError) as error:
            raise WorkersLost("a peer died during the sum") from error
        return True
