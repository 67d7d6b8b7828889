"""The cost model: how long detection, recovery and commits take, and how fast so many nodes are.

Defaults are assumptions of the right size for a cluster with a parallel file system; a calibrated file replaces them.
Knows numbers, not when they are due.
"""

from __future__ import annotations

import bisect
from typing import Annotated, Literal

from msgspec import Meta

from ft_horovod.core.config import Fraction, Positive, Section
from simulator.costs.quantity import Given, Quantity, value_of
from simulator.units import to_ns


class Point(Section, frozen=True):
    """Throughput of so many nodes, in samples per second; `restart_s` overrides the restart from disk at that size."""

    nodes: Annotated[int, Meta(ge=1)]
    samples_per_s: Positive
    restart_s: Positive | None = None


class Throughput(Section, frozen=True):
    """Speed by number of nodes.

    linear: n of N nodes are n/N as fast. fixed_batch: the step has a part `serial_share` that does not shrink with more
    nodes (Amdahl's law for a constant global batch). table: measured or published points, linear between them, the
    nearest one outside.
    """

    model: Literal["linear", "fixed_batch", "table"] = "linear"
    serial_share: Fraction = 0.0
    points: tuple[Point, ...] = ()
    source: Literal["measured", "published", "assumed"] = "assumed"

    def __post_init__(self) -> None:
        if (self.model == "table") != bool(self.points):
            raise ValueError("points go with model: table, and it needs them")
        sizes = [point.nodes for point in self.points]
        if sizes != sorted(set(sizes)):
            raise ValueError("points must be sorted by nodes, none twice")

    def relative(self, nodes: int, nominal: int) -> float:
        """Speed of `nodes` as a share of that of `nominal` nodes."""
        if nodes == nominal:
            return 1.0
        match self.model:
            case "linear":
                return nodes / nominal
            case "fixed_batch":
                return 1 / (self.serial_share + (1 - self.serial_share) * nominal / nodes) if nodes else 0.0
            case "table":
                return self.samples_per_s(nodes) / self.samples_per_s(nominal)

    def samples_per_s(self, nodes: int) -> float:
        """Samples per second from the table. Raises IndexError without one."""
        right = bisect.bisect_left(self.points, nodes, key=lambda point: point.nodes)
        if right == len(self.points) or right == 0:
            return self.points[min(right, len(self.points) - 1)].samples_per_s
        low, high = self.points[right - 1], self.points[right]
        share = (nodes - low.nodes) / (high.nodes - low.nodes)
        return low.samples_per_s + share * (high.samples_per_s - low.samples_per_s)

    def restart_s(self, nodes: int) -> float | None:
        """The table's restart time for exactly so many nodes, when it has one."""
        return next((point.restart_s for point in self.points if point.nodes == nodes), None)


class Commit(Section, frozen=True):
    """Commits: how often, how long training stands still for one, and how long until it is safe after that.

    `every_s` is time at work, `every_steps` counts steps; without either nothing is committed until the end. `copy` is
    the commit to the memory of hosts or peers, for policies that know one; from its copies one is written to disk, in
    the background, every `every_s`.
    """

    every_s: Positive | None = None
    every_steps: Annotated[int, Meta(ge=1)] | None = None
    stall_s: Quantity = 0.0
    write_s: Quantity = 0.0
    copy_every_s: Positive = 60.0
    copy_stall_s: Quantity = 0.0
    at_end: bool = True  # a last commit, for which the run waits

    def __post_init__(self) -> None:
        if self.every_s is not None and self.every_steps is not None:
            raise ValueError("only one of every_s and every_steps")


def published(value: float, note: str) -> Given:
    """A number from a paper."""
    return Given(value=value, source="published", note=note)


class Costs(Section, frozen=True):
    """Seconds unless the name says otherwise."""

    step_s: Quantity = 10.0  # one optimizer step of all nodes
    detect_kill_s: Quantity = 1.0  # until a dead process is known
    detect_hang_s: Quantity = 60.0  # until a stuck or unreachable one is
    detect_slow_s: Quantity | None = None  # until a straggler is replaced; None: it is kept
    in_place_s: Quantity = 0.2  # survivors go on: shrink, replan, restore, re-init
    refill_s: Quantity = 0.5  # pause at a step boundary when a node comes in or leaves in good order
    process_start_s: Quantity = 15.0  # until a process that was started again is ready to join
    redo_share: Quantity = 1.0  # of the current step, what is done again after a recovery in place
    kept_share: Quantity = 0.0  # of a step, what survivors have computed and need not do again
    elastic_reset_s: Quantity = 20.0  # stock elastic Horovod: new rendezvous, objects broadcast
    warm_restart_s: Quantity = 30.0  # processes started again, state from host memory
    peer_restore_s: Quantity = 60.0  # state fetched from the memory of other machines
    cold_restart_s: Quantity = 300.0  # processes started again, state from disk
    reconfigure_s: Quantity = published(2.0, "Oobleck, SOSP 2023 artifact: BERT-large and GPT-2")
    takeover_s: Quantity = 10.0  # redundant computation: the neighbour goes on for a lost stage
    redundancy_overhead: Quantity = published(0.2, "Bamboo, NSDI 2023: about 20 % of the step")
    handover_s: Quantity = 5.0  # notice needed to leave in good order
    state_bytes: Quantity = 1e9  # parameter server: all state
    network_bytes_per_s: Quantity = 1e9
    throughput: Throughput = Throughput()

    def ns(self, name: str) -> int:
        """A cost in seconds as nanoseconds. Raises AttributeError for a name that is not there."""
        quantity: Quantity = getattr(self, name)
        return to_ns(value_of(quantity))
