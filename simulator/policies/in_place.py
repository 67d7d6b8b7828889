"""Survivors go on with what they have: reconfiguration as in Oobleck, redundant computation as in Bamboo.

Knows what the two papers (SOSP 2023, NSDI 2023) tell of them, no more.
"""

from __future__ import annotations

from collections.abc import Sequence

from simulator.costs.quantity import value_of
from simulator.policies.policy import Hit, Recovery, Rollback, World
from simulator.policies.restart import RestartFromDisk


class ReconfigureInPlace(RestartFromDisk):
    """Oobleck: pipelines are made anew from templates for the nodes that are left; only the current step is lost."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.needed = world.scenario.options.min_nodes or max(1, self.fleet.wanted // 2)
        self._reconfigure = Recovery("reconfigured", self.costs.ns("reconfigure_s"), Rollback.STEP)

    def hit(self, hit: Hit) -> Recovery:
        survivors = len(self.fleet.active)
        self.fleet.fill()
        if hit.corrupt or survivors < self.needed:
            return self._restart  # not every stage has a holder for sure
        return self._reconfigure

    def left(self, nodes: Sequence[int]) -> Recovery:
        self.fleet.fill()
        return Recovery("left", self.costs.ns("reconfigure_s"), Rollback.NOTHING)

    def came(self) -> Recovery | None:
        if len(self.fleet.active) >= self.fleet.wanted:
            return None
        self.fleet.fill()
        return Recovery("join", self.costs.ns("reconfigure_s"), Rollback.NOTHING)


class RedundantComputation(RestartFromDisk):
    """Bamboo: each node also computes the stage of the node after it, and goes on for it when it is lost.

    Places are dealt to pipelines of `pipeline` nodes. Two neighbours lost before one of them is replaced are too many.
    The redundancy costs a share of the speed all the time, and a node that does two stages slows its pipeline down.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        options = world.scenario.options
        self.needed = options.min_nodes or max(1, self.fleet.wanted // 2)
        self._size = min(options.pipeline, self.fleet.wanted)
        self._overhead = value_of(self.costs.redundancy_overhead)
        self._place = {node: node for node in self.fleet.active}
        self._vacant: dict[int, None] = {}
        self._takeover = Recovery("taken over", self.costs.ns("takeover_s"), Rollback.STEP)

    def hit(self, hit: Hit) -> Recovery:
        self._vacant.update(dict.fromkeys(self._place.pop(node) for node in hit.nodes))
        fatal = hit.corrupt or any(self._before(place) in self._vacant for place in self._vacant)
        self._seat(self.fleet.fill())
        return self._restart if fatal else self._takeover

    def left(self, nodes: Sequence[int]) -> Recovery:
        return self.hit(Hit(nodes))

    def came(self) -> Recovery | None:
        taken = self.fleet.fill()
        if not taken:
            return None
        self._seat(taken)
        return Recovery("join", self.costs.ns("takeover_s"), Rollback.NOTHING)

    def speed(self) -> float:
        """All pipelines, those that miss somebody at half speed, less the redundancy."""
        pipelines = -(-self.fleet.wanted // self._size)
        halved = len({place // self._size for place in self._vacant})
        return (1 - self._overhead) * (pipelines - halved / 2) / pipelines

    def _before(self, place: int) -> int:
        """The place whose node goes on for this one."""
        first = place // self._size * self._size
        size = min(self._size, self.fleet.wanted - first)
        return first + (place - first - 1) % size

    def _seat(self, nodes: Sequence[int]) -> None:
        for node in nodes:
            place = next(iter(self._vacant))
            del self._vacant[place]
            self._place[node] = place
