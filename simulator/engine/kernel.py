"""The clock: events by time, ties by rank, then in the order in which they were planned.

Integer nanoseconds, so that sums are exact and the same events always come in the same order. Knows nothing of what
events mean.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

from ft_horovod.core.errors import InvalidTransition

E = TypeVar("E")

NEVER_NS = 1 << 62


class Kernel(Generic[E]):
    """Holds what is planned and hands it out in order; `now_ns` is the time of what was handed out last."""

    __slots__ = ("_heap", "_planned", "handled", "now_ns")

    def __init__(self) -> None:
        self.now_ns = 0
        self.handled = 0
        self._planned = 0
        self._heap: list[tuple[int, int, int, E]] = []

    def plan(self, time_ns: int, rank: int, event: E) -> None:
        """Plan `event`; of events at one time the lower rank comes first. Raises InvalidTransition for the past."""
        if time_ns < self.now_ns:
            raise InvalidTransition(f"planned for {time_ns} ns, and it is {self.now_ns} ns already")
        self._planned += 1
        heappush(self._heap, (time_ns, rank, self._planned, event))

    def take(self, until_ns: int = NEVER_NS) -> E | None:
        """Go to the next event; None when nothing is planned until then."""
        heap = self._heap
        if not heap or heap[0][0] > until_ns:
            return None
        self.now_ns, _, _, event = heappop(heap)
        self.handled += 1
        return event

    def go_to(self, time_ns: int) -> None:
        """Go on to what comes from elsewhere, in order of time, and is not planned here."""
        self.now_ns = time_ns
        self.handled += 1
