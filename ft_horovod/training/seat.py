"""Where a worker process sits: who started it, what it is called, and over what it meets the others.

Each launcher's seat lies in a module of its own, imported only when it is sat in: importing MPI initialises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Pulse
from ft_horovod.membership.links import Links
from ft_horovod.membership.protocol import Membership
from ft_horovod.runfolder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Connected:
    """A membership, and the links between stages when the model is split."""

    membership: Membership
    links: Links | None


class Seat(Protocol):
    """One process's place among those that were started."""

    me: WorkerId
    number: int | None  # among those the launcher started together; None for a newcomer

    def connect(self, layout: LayoutConfig, folder: RunFolder, pulse: Pulse) -> Connected:
        """Come into contact with the others. Raises ConfigError."""
        ...


def take_seat(environment: Mapping[str, str], newcomers: str | None) -> Seat:
    """The seat that the launcher has given to this process; `newcomers`: names of those started with it, if late."""
    if "HOROVOD_GLOO_RENDEZVOUS_ADDR" in environment and "OMPI_COMM_WORLD_RANK" not in environment:
        from ft_horovod.training.seat_horovodrun import HorovodrunSeat

        return HorovodrunSeat(environment, newcomers)
    from ft_horovod.training.seat_mpirun import MpirunSeat

    return MpirunSeat(newcomers)
