"""Horovod's sums without a wait that never ends, over whatever Horovod runs on.

Stock Horovod offers `synchronize`, which spins for good when a tensor was handed in while the background loop was
dying. Here a handle is polled, and given up once the ring is known to be broken. This module does not know how.
"""

from __future__ import annotations

import time
from typing import Protocol

import horovod.torch as hvd
import torch
from horovod.common.exceptions import HorovodInternalError
from horovod.torch import mpi_ops

from ft_horovod.core.errors import WorkersLost
from ft_horovod.membership.protocol import Handle

_LOST_HANDLE_S = 0.05  # after the loss is known, how long a sum in flight may still complete


class Breakable(Protocol):
    """What the sums run over."""

    @property
    def broken_at(self) -> float | None:
        """When it was first known that somebody is lost, on the monotonic clock."""
        ...

    def failed(self) -> None:
        """Horovod says so itself, before anything else did."""
        ...


def start_sum(ring: Breakable, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
    """Start a sum; `target` may be written until the handle is done or Horovod is down. Raises WorkersLost."""
    if ring.broken_at is not None:
        raise WorkersLost("a peer died")
    try:
        # The public allreduce_async allocates its output anew each time, which costs a page fault for each 4 KiB.
        handle = mpi_ops._allreduce_async(source, target, name, hvd.Sum, 1.0, 1.0, hvd.global_process_set)
    except (HorovodInternalError, ValueError) as error:
        ring.failed()
        raise WorkersLost("Horovod is down") from error
    return _Sum(ring, handle)


def forget_sums() -> None:
    """Let go of what Horovod holds for sums that will never complete; only while it is down."""
    mpi_ops._handle_map.clear()


class _Sum:
    """See `Handle`."""

    def __init__(self, ring: Breakable, handle: int):
        self._ring, self._handle = ring, handle

    def done(self) -> bool:
        """See `Handle.done`."""
        if not mpi_ops.poll(self._handle):
            broken_at = self._ring.broken_at
            if broken_at is not None and time.monotonic() - broken_at > _LOST_HANDLE_S:
                raise WorkersLost("a peer died during the sum")
            return False
        try:
            mpi_ops.synchronize(self._handle)
        except (HorovodInternalError, ValueError) as error:
            self._ring.failed()
            raise WorkersLost("a peer died during the sum") from error
        return True
