"""What is simulated: the YAML of configs/sim as checked values.

Knows values and what contradicts what; reading files is `files`' business.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ft_horovod.core.config import Count, Fraction, Index, NonNegative, Positive, Section
from ft_horovod.core.placement import Scheme
from simulator.costs.model import Commit, Costs
from simulator.costs.quantity import value_of
from simulator.failures.causes import Failures
from simulator.units import S_PER_H, to_ns

_MOST_S = 1e9  # a clock of 64 bits holds 292 years; nobody trains for 30
Nodes = Annotated[int, Meta(ge=1, le=10_000_000)]


class ClusterConfig(Section, frozen=True):
    """Machines. The job wants `nodes` of them; `spares` wait beside."""

    nodes: Nodes
    gpus_per_node: Count = 8
    nodes_per_rack: Nodes = 16
    spares: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    provision_s: Positive | None = None  # a new machine instead of a broken one; None: it comes back when repaired
    price_per_gpu_h: NonNegative | None = None  # in whatever currency; spares cost as much


class JobConfig(Section, frozen=True):
    """How long: so much wall time, or so much work at nominal speed. With both, whichever is reached first ends it."""

    wall_h: Positive | None = None
    work_h: Positive | None = None

    def __post_init__(self) -> None:
        if self.wall_h is None and self.work_h is None:
            raise ValueError("one of wall_h and work_h is needed")
        if max(self.wall_h or 0, self.work_h or 0) * S_PER_H > _MOST_S:
            raise ValueError(f"longer than {_MOST_S / S_PER_H:,.0f} h")


class PolicyOptions(Section, frozen=True):
    """What policies can be told. Each takes what it knows."""

    min_nodes: Nodes | None = None  # elastic policies go on with so many; None: half
    stages: Annotated[int, Meta(ge=1, le=64)] = 1  # toolkit: groups of nodes that hold one stage each
    role: str = "replica"  # toolkit: replica (all compute) or standby (backups only follow)
    replicas: Annotated[int, Meta(ge=1, le=64)] = 2  # peer replication, parameter server: copies of each state
    placement: Scheme = "group"  # peer replication: group or ring
    servers: Fraction = 0.1  # parameter server: share of the nodes
    host_memory: bool = True  # toolkit: state is copied to the memory of the neighbour host
    pipeline: Annotated[int, Meta(ge=2, le=64)] = 8  # redundant computation: nodes of one pipeline

    def __post_init__(self) -> None:
        if self.role not in ("replica", "standby"):
            raise ValueError("role is replica or standby")


class Precision(Section, frozen=True):
    """How many runs: until the 95 % interval of goodput is no wider than +- `half_width`, between two limits."""

    half_width: Annotated[float, Meta(gt=0, lt=1)] = 0.005
    least: Annotated[int, Meta(ge=2, le=1_000_000)] = 16
    most: Annotated[int, Meta(ge=2, le=1_000_000)] = 400


class Scenario(Section, frozen=True):
    """Everything a simulation depends on, besides the seed of each run."""

    cluster: ClusterConfig
    job: JobConfig
    failures: Failures = Failures()
    commit: Commit = Commit()
    costs: Costs = Costs()
    policy: str = "toolkit"
    options: PolicyOptions = PolicyOptions()
    precision: Precision = Precision()
    seed: Index = 0
    title: str = ""

    def __post_init__(self) -> None:
        if value_of(self.costs.step_s) <= 0:
            raise ValueError("costs.step_s must be more than 0")
        every_s = self.interval_s
        if every_s is not None and value_of(self.commit.write_s) > every_s:
            raise ValueError(
                f"commit.write_s, {value_of(self.commit.write_s):g} s, is longer than the {every_s:g} s between commits"
            )
        if (self.options.min_nodes or 1) > self.cluster.nodes:
            raise ValueError(f"options.min_nodes is more than cluster.nodes, {self.cluster.nodes}")
        if self.options.stages > self.cluster.nodes:
            raise ValueError(f"options.stages is more than cluster.nodes, {self.cluster.nodes}")

    @property
    def interval_s(self) -> float | None:
        """Time at work between two commits to disk, at nominal speed."""
        if self.commit.every_steps is not None:
            return self.commit.every_steps * value_of(self.costs.step_s)
        return self.commit.every_s

    @property
    def machines(self) -> int:
        """Nodes and spares."""
        return self.cluster.nodes + self.cluster.spares

    @property
    def limit_ns(self) -> int:
        """When the run is given up at the latest: its wall time, or a thousand times its work."""
        if self.job.wall_h is not None:
            return to_ns(self.job.wall_h * S_PER_H)
        return to_ns(min(2 * _MOST_S, 1000 * (self.job.work_h or 0) * S_PER_H))
