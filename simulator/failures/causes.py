"""Why things fail: causes with a rate, a reach, an effect and a repair.

Knows what a cause is and how often it strikes; when it strikes is drawn in `stream`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ft_horovod.core.config import Count, Fraction, NonNegative, Positive, Section
from simulator.failures.distributions import Duration, Spread
from simulator.units import S_PER_DAY, S_PER_H

Effect = Literal["kill", "hang", "slow", "false_alarm", "preempt", "partition", "corrupt"]
EFFECTS: tuple[Effect, ...] = ("kill", "hang", "slow", "false_alarm", "preempt", "partition", "corrupt")


class Burst(Section, frozen=True):
    """Some failures take neighbours of the same rack with them."""

    probability: Fraction
    others_mean: Annotated[float, Meta(ge=1, le=1e6)] = 1.0  # neighbours lost too, when it happens; geometric


class Cause(Section, frozen=True):
    """One reason to fail. Exactly one of the three rates is given: that of one unit, which is a node, rack or cluster.

    kill: the node's processes die. hang: they stand still until somebody notices. slow: the node computes `factor`
    times slower for the time of `repair`. false_alarm: a healthy node is taken away and given back after `repair`.
    preempt: taken away with `notice_s` of notice. partition: unreachable for the time of `repair`. corrupt: the state
    of everybody is wrong, and only a commit on disk is trusted.
    """

    name: str
    effect: Effect = "kill"
    per: Literal["node", "rack", "cluster"] = "node"
    mtbf_h: Positive | None = None
    per_1000_node_days: Positive | None = None
    count_in_days: tuple[Positive, Positive] | None = None  # so many in so many days, over the whole cluster
    spread: Spread = Spread()
    repair: Duration | None = None  # None: the node is well at once, only its processes are gone
    host_lost: bool = True  # False: only processes die; what the host has in memory stays
    planned: bool = False  # counted apart from what nobody wanted
    burst: Burst | None = None
    factor: Annotated[float, Meta(gt=1, le=1e6)] = 2.0
    notice_s: NonNegative = 0.0

    def __post_init__(self) -> None:
        if sum(rate is not None for rate in (self.mtbf_h, self.per_1000_node_days, self.count_in_days)) != 1:
            raise ValueError(f"cause {self.name}: exactly one of mtbf_h, per_1000_node_days, count_in_days")
        if self.effect in ("slow", "partition", "false_alarm") and self.repair is None:
            raise ValueError(f"cause {self.name}: {self.effect} needs repair, the time it lasts")
        if self.per_1000_node_days is not None and self.per != "node":
            raise ValueError(f"cause {self.name}: per_1000_node_days goes with per: node")

    def mtbf_s(self, units: int) -> float:
        """Mean time between two failures of one unit, of which there are `units`, in seconds."""
        if self.mtbf_h is not None:
            return self.mtbf_h * S_PER_H
        if self.per_1000_node_days is not None:
            return 1000 * S_PER_DAY / self.per_1000_node_days
        if self.count_in_days is None:
            raise ValueError("a cause without a rate")
        count, days = self.count_in_days
        return units * days * S_PER_DAY / count


class Lemons(Section, frozen=True):
    """Bad nodes: a share of all, drawn by seed, that fail `factor` times as often."""

    share: Fraction
    factor: Annotated[float, Meta(ge=1, le=1e6)]


class Failures(Section, frozen=True):
    """Everything that fails: a preset, causes of one's own, a fault schedule, or several of them."""

    preset: Literal["llama3", "meta_rsc1", "meta_rsc2", "none"] = "none"
    causes: tuple[Cause, ...] = ()
    lemons: Lemons | None = None
    schedule: str | None = None  # path of a fault schedule (YAML), relative to this file
    rate_factor: Positive = 1.0  # all rates of causes times this
    nodes_of_rates: Count | None = None  # preset llama3: rates are those of so many nodes; None: its own 2,048
