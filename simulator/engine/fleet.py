"""Who is where: nodes at work, spares, and those that are away.

Ordered, so that the same events always choose the same nodes. Knows names (numbers) only.
"""

from __future__ import annotations

from collections.abc import Iterable


class Fleet:
    """`active` nodes hold the job's places, `spares` wait; who is in neither is away, in `away`, longest first."""

    __slots__ = ("active", "away", "spares", "wanted")

    def __init__(self, nodes: int, spares: int) -> None:
        self.wanted = nodes
        self.active: dict[int, None] = dict.fromkeys(range(nodes))
        self.spares: dict[int, None] = dict.fromkeys(range(nodes, nodes + spares))
        self.away: dict[int, None] = {}

    def lose(self, nodes: Iterable[int]) -> list[int]:
        """Nodes go away; those of them that were at work. Nodes that are away already do not count again."""
        lost = []
        for node in nodes:
            if node in self.active:
                del self.active[node]
                lost.append(node)
            elif node in self.spares:
                del self.spares[node]
            else:
                continue
            self.away[node] = None
        return lost

    def come_back(self, node: int | None) -> int | None:
        """A node, or whoever is away longest, waits as a spare from now on; None when nobody was away."""
        if node is None:
            node = next(iter(self.away), None)
        if node is None or node not in self.away:
            return None
        del self.away[node]
        self.spares[node] = None
        return node

    def take(self, count: int) -> list[int]:
        """At most `count` spares, those that wait longest first, come to work."""
        taken: list[int] = []
        while len(taken) < count and self.spares:
            node = next(iter(self.spares))
            del self.spares[node]
            self.active[node] = None
            taken.append(node)
        return taken

    def fill(self) -> list[int]:
        """As many spares as places are empty come to work."""
        return self.take(self.wanted - len(self.active))

    def bring(self, node: int) -> None:
        """One spare comes to work. Raises KeyError when it is none."""
        del self.spares[node]
        self.active[node] = None
