"""What a policy is: it is told of losses and of nodes that come back, and answers with a recovery.

Knows the words that engine and policies share. Knows no policy.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from simulator.engine.fleet import Fleet
from simulator.scenario import Scenario


class Rollback(enum.IntEnum):
    """From where training goes on, the cheapest first."""

    NOTHING = 0  # nothing is lost
    STEP = 1  # the current step, or the share of it that costs.redo_share says
    COPY = 2  # the newest copy in the memory of hosts or peers
    DISK = 3  # the newest commit on disk


class Hit(msgspec.Struct, frozen=True, gc=False):
    """Nodes at work that were just lost; the fleet has dropped them already.

    `gone`: their memory is lost, too. `corrupt`: nobody's state can be trusted.
    """

    nodes: Sequence[int]
    gone: bool = True
    corrupt: bool = False


class Recovery(msgspec.Struct, frozen=True, gc=False):
    """How training goes on: `pause_ns` from when the loss is known and enough nodes are there. `tier` names it.

    With `overlap_ns` there is no pause: from the rollback on, the survivors train at their old pace while the restart
    is prepared, commit at the end of the step in hand, and lose the step they are in when the restart comes.
    """

    tier: str
    pause_ns: int
    rollback: Rollback
    overlap_ns: int = 0


@dataclass(frozen=True, slots=True)
class World:
    """What a policy is built from: the scenario and the fleet, which it may fill from spares."""

    scenario: Scenario
    fleet: Fleet


class Policy(Protocol):
    """What a system does about failures.

    `needed` is the fewest nodes that can train; with fewer the run waits. `copies` says whether commits are copied to
    memory, every `commit.copy_every_s`. `respawn_ns`: until a process that died on a healthy node can come back; 0 when
    the pause of a recovery includes it.
    """

    needed: int
    copies: bool
    respawn_ns: int

    def hit(self, hit: Hit) -> Recovery:
        """Nodes are lost. Fill from `fleet` what shall be filled, and say how training goes on."""
        ...

    def left(self, nodes: Sequence[int]) -> Recovery:
        """Nodes left in good order, having handed over."""
        ...

    def came(self) -> Recovery | None:
        """Spares are there. Take them and say what it costs, or None: they wait on."""
        ...

    def running(self) -> None:
        """Training goes on; all state has its copies again."""
        ...

    def speed(self) -> float:
        """How fast the active nodes are, as a share of nominal speed."""
        ...
