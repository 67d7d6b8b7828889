"""Everything stops and starts again: from disk, from host memory, as stock elastic Horovod or torchrun do it.

Knows what these systems do as their documentation tells; what it costs is in the cost model.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.policies.policy import Hit, Recovery, Rollback, World
from simulator.units import to_ns


class RestartFromDisk:
    """A job of fixed size: any loss stops everybody, and all start again from the newest commit on disk.

    With fewer nodes than it wants it waits: a batch scheduler gives all or nothing.
    """

    copies = False
    respawn_ns = 0
    tier = "cold restart"

    def __init__(self, world: World) -> None:
        self.fleet, self.costs = world.fleet, world.scenario.costs
        self.needed = world.fleet.wanted
        self._pause_ns = self.costs.ns("cold_restart_s")
        self._restart = Recovery(self.tier, self._pause_ns, Rollback.DISK)

    def hit(self, hit: Hit) -> Recovery:
        self.fleet.fill()
        return self._restart

    def left(self, nodes: Sequence[int]) -> Recovery:
        self.fleet.fill()
        return Recovery("planned restart", self._pause_ns, Rollback.NOTHING)

    def came(self) -> Recovery | None:
        return None if len(self.fleet.active) >= self.needed else self._came()

    def _came(self) -> Recovery:
        self.fleet.fill()
        return Recovery("join", self._pause_ns, Rollback.NOTHING)

    def running(self) -> None:
        return None

    def speed(self) -> float:
        return self.costs.throughput.relative(len(self.fleet.active), self.fleet.wanted)


class RestartFromHostMemory(RestartFromDisk):
    """Processes start again, and find their state in their hosts' memory; a host that is lost takes its part with it.

    State is not copied to other hosts: then only the disk helps.
    """

    copies = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._warm = Recovery("warm restart", self.costs.ns("warm_restart_s"), Rollback.COPY)

    def hit(self, hit: Hit) -> Recovery:
        if hit.gone or hit.corrupt:
            return super().hit(hit)
        self.fleet.fill()
        return self._warm


class Torchrun(RestartFromDisk):
    """torchrun between --nnodes=MIN:MAX: any loss or newcomer restarts all workers, from the newest commit on disk."""

    tier = "restart of all workers"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.needed = world.scenario.options.min_nodes or max(1, self.fleet.wanted // 2)

    def hit(self, hit: Hit) -> Recovery:
        self.fleet.fill()
        return Recovery(self.tier, self._restart_ns(), Rollback.DISK)

    def left(self, nodes: Sequence[int]) -> Recovery:
        return self.hit(Hit(nodes))

    def came(self) -> Recovery | None:
        if len(self.fleet.active) >= self.fleet.wanted:
            return None
        self.fleet.fill()
        return Recovery("join", self._restart_ns(), Rollback.DISK)

    def _restart_ns(self) -> int:
        """The table's restart time for this size when it has one."""
        listed_s = self.costs.throughput.restart_s(len(self.fleet.active))
        return self._pause_ns if listed_s is None else to_ns(listed_s)


class OverlappedRestart(Torchrun):
    """A restart that is prepared while the survivors train on from the newest commit.

    This is how the simulator published with Oobleck (SOSP 2023) counts Varuna: steps that end before the rendezvous
    does are counted, so that a loss costs the rollback, one commit and a step, not the restart.
    """

    tier = "restart, overlapped"

    def hit(self, hit: Hit) -> Recovery:
        overlap_ns = self._restart_ns()
        self.fleet.fill()
        return Recovery(self.tier, overlap_ns, Rollback.DISK, overlap_ns)


class StockElasticHorovod(Torchrun):
    """Horovod's own elastic mode: survivors throw away what `state.commit()` did not keep, and meet again.

    State lives in the memory of every worker. Newcomers interrupt everybody, at a commit.
    """

    copies = True

    def hit(self, hit: Hit) -> Recovery:
        survivors = len(self.fleet.active)
        self.fleet.fill()
        if survivors == 0 or hit.corrupt:
            return Recovery("cold restart", self._pause_ns, Rollback.DISK)
        return Recovery("elastic reset", self.costs.ns("elastic_reset_s"), Rollback.COPY)

    def came(self) -> Recovery | None:
        if len(self.fleet.active) >= self.fleet.wanted:
            return None
        self.fleet.fill()
        return Recovery("join", self.costs.ns("elastic_reset_s"), Rollback.NOTHING)
