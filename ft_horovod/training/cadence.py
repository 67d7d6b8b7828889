"""When a tier of commits is due: as `--commit` says, or as its measured cost and the rate of failures ask."""

from __future__ import annotations

import statistics
import time
from collections import deque

from ft_horovod.core.commit_interval import TierCost, choose_interval
from ft_horovod.core.commit_policy import CommitPolicy, Seconds, TierName

_WINDOW = 8


class Cadence:
    """The rhythm of one tier, as the leader keeps it."""

    def __init__(self, policy: CommitPolicy, tier: TierName, mtbf_s: float):
        """`mtbf_s`: the mean time between failures that this tier is for, in seconds."""
        self._policy, self._tier, self._mtbf_s = policy, tier, mtbf_s
        rhythm = policy.memory if tier == "memory" else policy.disk
        self._by_time = isinstance(rhythm, Seconds) or (rhythm == "auto" and tier == "disk")
        self._costs: deque[TierCost] = deque(maxlen=_WINDOW)
        self._last_step: int | None = None
        self._last_at = time.monotonic()

    def due(self, step: int, step_s: float) -> bool:
        """Whether a commit of `step` is due, when a step takes `step_s` (0: not known yet)."""
        interval = choose_interval(self._policy, self._tier, self._cost(), step_s or 1e-9, self._mtbf_s)
        if interval is None or not step_s:
            return False
        if self._by_time:
            wanted_s = 0.0 if interval.bound == "unmeasured" else interval.seconds
            return time.monotonic() - self._last_at >= wanted_s
        return self._last_step is None or not 0 <= step - self._last_step < interval.steps

    def begun(self, step: int) -> None:
        """A commit of `step` was begun."""
        self._last_step, self._last_at = step, time.monotonic()

    def measured(self, stall_s: float, complete_s: float) -> None:
        """What a commit cost the training, and how long it took until it could be relied on."""
        self._costs.append(TierCost(stall_s, complete_s))

    def _cost(self) -> TierCost | None:
        if not self._costs:
            return None
        return TierCost(
            statistics.median(cost.stall_s for cost in self._costs),
            statistics.median(cost.complete_s for cost in self._costs),
        )
