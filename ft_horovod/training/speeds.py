"""How fast members compute, who is slow, and how much less a slow one gets to do.

Every member puts the seconds that its work took it, per sample, into the control lane; because all see the same
numbers, all deal out the next step alike. A member is compared with those that do the same work: its group. This module
knows numbers; it deals out nothing.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

import torch

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout

_WINDOW_STEPS = 8
_SLOW_FROM = 1.5  # times the group's median
_WELL_UNTIL = 1.25
_NOTCH = 0.25  # factors are rounded to it: shares that change in each step would be loaded in vain


class Speeds:
    """The speeds of all members of a layout, the same on each of them."""

    def __init__(self) -> None:
        self._members: tuple[WorkerId, ...] = ()
        self._groups: list[list[int]] = []
        self._seen: list[deque[float]] = []
        self._factors: list[float] = []
        self._news: dict[WorkerId, float] = {}
        self._mine, self._noted = 0, 0.0

    def enter(self, me: WorkerId, layout: Layout) -> None:
        """A new group holds: what was seen before is forgotten, as newcomers cannot know it."""
        self._members = layout.members
        places = {worker: place for place, worker in enumerate(layout.members)}
        self._groups = [[places[worker] for worker in group.members] for group in layout.groups]
        self._seen = [deque(maxlen=_WINDOW_STEPS) for _ in self._members]
        self._factors = [1.0] * len(self._members)
        self._mine = places.get(me, 0)
        self._noted = 0.0

    def note(self, samples: int, busy_s: float) -> None:
        """This worker's part of a step: how many samples, how long it was at work on them."""
        self._noted = busy_s / samples if samples else 0.0

    def lane(self) -> torch.Tensor:
        """What this worker adds to the control lane, float32 `[members]`: its seconds per sample in its own place."""
        lane = torch.zeros(len(self._members))
        if self._members:
            lane[self._mine] = self._noted
        self._noted = 0.0
        return lane

    def heard(self, lane: torch.Tensor) -> None:
        """The lane summed over all members; 0 stands for a member that had no work."""
        for seen, seconds in zip(self._seen, lane.tolist(), strict=True):
            if seconds > 0:
                seen.append(seconds)
        for group in self._groups:
            self._compare([place for place in group if len(self._seen[place]) == _WINDOW_STEPS])

    def _compare(self, group: Sequence[int]) -> None:
        if len(group) < 2:
            return
        typical = {place: statistics.median(self._seen[place]) for place in group}
        for place in group:
            others = statistics.median(typical[other] for other in group if other != place)
            ratio = typical[place] / others
            was = self._factors[place]
            if ratio >= _SLOW_FROM or (was > 1 and ratio > _WELL_UNTIL):
                self._set(place, max(1 + _NOTCH, round(ratio / _NOTCH) * _NOTCH))
            else:
                self._set(place, 1.0)

    def _set(self, place: int, factor: float) -> None:
        was, self._factors[place] = self._factors[place], factor
        if (was > 1) != (factor > 1):
            self._news[self._members[place]] = factor

    def weight(self, worker: WorkerId) -> float:
        """How much of a fair share a member gets: 1, or less when it is slow."""
        return 1 / self._factors[self._members.index(worker)]

    def news(self) -> dict[WorkerId, float]:
        """Who has become slow since this was last asked, by which factor, and who is well again: 1."""
        told, self._news = self._news, {}
        return told
