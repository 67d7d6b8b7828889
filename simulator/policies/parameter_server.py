"""Parameter servers that share the state by consistent hashing; workers are stateless.

A lost worker only makes the rest slower. A lost server's keys go to the servers that follow it on the ring, from
replicas when there are any. The ring is the toolkit's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from ft_horovod.core.placement import HashRing, Member
from simulator.costs.quantity import value_of
from simulator.policies.policy import Hit, Recovery, Rollback, World
from simulator.policies.restart import RestartFromDisk
from simulator.units import to_ns

_POINTS = 64  # of each server on the ring: shares differ by about 1/8


class ParameterServer(RestartFromDisk):
    """The first `servers` share of the nodes hold the parameters, `replicas` times; the others compute."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        options = world.scenario.options
        self.needed = options.min_nodes or max(1, self.fleet.wanted // 2)
        count = max(1, round(options.servers * self.fleet.wanted))
        self._servers = set(range(min(count, self.fleet.wanted)))
        self._ring = self._ring_of_servers()
        self._replicas = options.replicas
        self._since_whole = 0  # servers lost since all keys had all their copies

    def hit(self, hit: Hit) -> Recovery:
        lost = [node for node in hit.nodes if node in self._servers]
        shares = self._ring.shares() if lost else {}
        moved = sum(shares[str(server)] for server in lost)
        for server in lost:
            self._servers.discard(server)
            self._ring = self._ring.without(str(server))
        taken = self.fleet.fill()
        self._since_whole += len(lost)
        if hit.corrupt or not self._servers or self._since_whole >= self._replicas:
            self._servers.update(taken[: len(lost)])
            self._servers = self._servers or set(list(self.fleet.active)[:1])
            self._ring = self._ring_of_servers()
            return self._restart
        if not lost:
            return Recovery("worker lost", self.costs.ns("refill_s"), Rollback.NOTHING)
        costs = self.costs
        copied_s = moved * value_of(costs.state_bytes) / max(1.0, value_of(costs.network_bytes_per_s))
        return Recovery("keys moved", costs.ns("in_place_s") + to_ns(copied_s), Rollback.STEP)

    def left(self, nodes: Sequence[int]) -> Recovery:
        return self.hit(Hit(nodes))

    def came(self) -> Recovery | None:
        if not self.fleet.fill():
            return None
        return Recovery("join", self.costs.ns("refill_s"), Rollback.NOTHING)

    def running(self) -> None:
        self._since_whole = 0

    def _ring_of_servers(self) -> HashRing:
        return HashRing([_member(node) for node in sorted(self._servers)], _POINTS)


def _member(node: int) -> Member:
    return Member(str(node), str(node))
