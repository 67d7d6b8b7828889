"""Copies of the state in the memory of other machines, as in Gemini (SOSP 2023), with its placement.

With `group`, machines form groups of `replicas` that hold each other's states; with `ring`, each copies to those that
follow. When all that hold one state are lost before the copies are made again, only the disk helps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ft_horovod.core.placement import Scheme, placed
from simulator.policies.policy import Hit, Recovery, Rollback, World
from simulator.policies.restart import RestartFromDisk


def survives(lost: Collection[int], places: int, replicas: int, scheme: Scheme) -> bool:
    """Whether every state has a holder that is not among the `lost` places."""
    gone = set(lost)
    return all(any(holder not in gone for holder in placed(place, places, replicas, scheme)) for place in sorted(gone))


class PeerReplication(RestartFromDisk):
    """Machines are replaced, and their states come from the memory of their peers."""

    copies = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        options = world.scenario.options
        self._replicas, self._placement = options.replicas, options.placement
        self._place = {node: node for node in self.fleet.active}
        self._empty: set[int] = set()  # places whose memory is not filled again yet
        self._vacant: list[int] = []
        self._peer = Recovery("peer memory", self.costs.ns("peer_restore_s"), Rollback.COPY)
        self._warm = Recovery("own memory", self.costs.ns("warm_restart_s"), Rollback.COPY)

    def hit(self, hit: Hit) -> Recovery:
        places = [self._place.pop(node) for node in hit.nodes]
        self._vacant += places
        if hit.gone:
            self._empty.update(places)
        self._seat(self.fleet.fill())
        if hit.corrupt or not survives(self._empty, self.fleet.wanted, self._replicas, self._placement):
            return self._restart
        return self._peer if self._empty else self._warm

    def left(self, nodes: Sequence[int]) -> Recovery:
        self._vacant += [self._place.pop(node) for node in nodes]
        self._seat(self.fleet.fill())
        return Recovery("planned restart", self.costs.ns("warm_restart_s"), Rollback.NOTHING)

    def came(self) -> Recovery | None:
        if len(self.fleet.active) >= self.needed:
            return None
        self._seat(self.fleet.fill())
        return Recovery("join", self.costs.ns("peer_restore_s"), Rollback.NOTHING)

    def running(self) -> None:
        self._empty.clear()

    def _seat(self, nodes: Sequence[int]) -> None:
        for node in nodes:
            self._place[node] = self._vacant.pop(0)
