"""The seat of a worker that mpirun started, or MPI_Comm_spawn. Importing this module initialises MPI."""

from __future__ import annotations

import socket
import sys

from mpi4py import MPI

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Pulse
from ft_horovod.runfolder import RunFolder
from ft_horovod.training.seat import Connected


class MpirunSeat:
    """See `Seat`."""

    def __init__(self, newcomers: str | None):
        self.number: int | None = None
        if newcomers is not None:
            self.me = WorkerId.parse(newcomers.split(",")[MPI.COMM_WORLD.rank])
            return
        self.number = MPI.COMM_WORLD.rank
        # Not mpirun's local rank: on one host slots are to be numbered as ranks are.
        here = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED, MPI.COMM_WORLD.rank)
        self.me = WorkerId(socket.gethostname(), here.rank)
        here.Free()

    def connect(self, layout: LayoutConfig, folder: RunFolder, pulse: Pulse) -> Connected:
        """See `Seat.connect`."""
        from ft_horovod.membership.horovod_ring import HorovodRing
        from ft_horovod.membership.stage_links import StageLinks
        from ft_horovod.membership.ulfm import UlfmMembership

        links = StageLinks(self.me, standby=layout.standby) if layout.stages > 1 else None
        membership = UlfmMembership(
            self.me,
            pulse,
            links or HorovodRing(),
            command=[sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)],
            marks=folder.ready,
            newcomer=self.number is None,
        )
        return Connected(membership=membership, links=links)
