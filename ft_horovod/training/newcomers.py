"""Everybody who was ever part of the run, and the names that newcomers get.

All members keep the same roster, so they give newcomers the same names without talking about it.
"""

from __future__ import annotations

import msgspec

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.membership.protocol import Facts


class Roster:
    """All workers the run has had, in launch order; a worker's number in the fault schedule is its place in it."""

    def __init__(self) -> None:
        self.everybody: tuple[WorkerId, ...] = ()

    def learn(self, facts: Facts) -> None:
        """Take over the longest roster anybody has, and add who is new."""
        longest = max((report.roster for report in facts.reports), key=len)
        fresh = tuple(worker for worker in facts.workers if worker not in longest)
        self.everybody = (*longest, *fresh)

    def add(self, newcomers: tuple[WorkerId, ...]) -> None:
        """Names that were given away; whether they ever come or not, they are not used again."""
        self.everybody = (*self.everybody, *newcomers)

    def number(self, worker: WorkerId) -> int:
        return self.everybody.index(worker)

    def newcomers(self, layout: Layout, wanted: int) -> tuple[WorkerId, ...]:
        """Names for as many newcomers as `layout` misses members and has no spares for.

        Empty slots are filled first, with the next incarnation; then the first host's slots are continued.
        """
        missing = max(0, wanted - len(layout.members) - len(layout.spares))
        taken = {(worker.host, worker.slot) for worker in layout.workers}
        last: dict[tuple[str, int], WorkerId] = {}
        for worker in self.everybody:
            place = (worker.host, worker.slot)
            last[place] = max(worker, last.get(place, worker))
        empty = [last[place] for place in sorted(last) if place not in taken]
        names = [msgspec.structs.replace(worker, incarnation=worker.incarnation + 1) for worker in empty[:missing]]
        host = layout.members[0].host
        next_slot = 1 + max((slot for at, slot in last if at == host), default=-1)
        while len(names) < missing:
            names.append(WorkerId(host, next_slot))
            next_slot += 1
        return tuple(names)
