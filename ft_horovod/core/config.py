"""The configuration of a run: frozen, checked, read in one place.

Each section is a struct; each field's comment says what it means and its unit. Defaults are what `ft-horovod train`
does without a file. This module knows values, not files, devices or processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ft_horovod.core.commit_policy import parse_policy
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.partition import share_members
from ft_horovod.core.samples import MAX_BATCH

MAX_WORKERS = 1_000_000

Count = Annotated[int, Meta(ge=1, lt=1 << 62)]
Index = Annotated[int, Meta(ge=0, lt=1 << 62)]
Positive = Annotated[float, Meta(gt=0, le=1e300)]
NonNegative = Annotated[float, Meta(ge=0, le=1e300)]
Fraction = Annotated[float, Meta(ge=0, le=1)]

ModelName = Literal["tiny", "resnet18", "resnet34", "resnet50", "resnet101"]
DataName = Literal["digits", "cifar10", "mnist", "imagefolder", "synthetic"]
NormName = Literal["batch", "group", "frozen"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of all sections: frozen, and unknown keys are errors."""


class ModelConfig(Section, frozen=True):
    name: ModelName = "resnet50"
    norm: NormName = "batch"  # batch: local statistics, running ones averaged; group and frozen do not couple the batch
    device: Literal["auto", "cpu", "cuda"] = "auto"


class DataConfig(Section, frozen=True):
    name: DataName = "digits"
    root: str | None = None  # folder of the files; digits and synthetic need none
    image_size: Annotated[int, Meta(ge=8, le=1024)] | None = None  # pixels; None: 32, but 224 for imagefolder
    batch_size: Annotated[int, Meta(ge=1, lt=MAX_BATCH)] = (
        64  # samples of one step over all workers: constant, whoever lives
    )
    micro_batch: Count | None = None  # samples of one forward and backward pass; None: a worker's whole share
    samples: Count | None = None  # synthetic: how many training samples; None: 1,024
    augment: bool = False  # random crop and flip, seeded by sample and epoch


class OptimizerConfig(Section, frozen=True):
    lr: Positive = 0.05  # at a batch of `lr_batch`; scaled linearly to the batch size
    lr_batch: Count = 64
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 5e-4
    label_smoothing: Fraction = 0.0
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    warmup_steps: Index = 0  # linear from 0 to the full rate
    decay_epochs: tuple[Count, ...] = (30, 60, 80)  # schedule step: multiplied by decay_factor at these epochs
    decay_factor: Fraction = 0.1


class LayoutConfig(Section, frozen=True):
    """Who computes. `workers` is the number of members of all stages together."""

    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] = 0  # 0 stands for what stages and backups need, or 4
    spares: Annotated[int, Meta(ge=0, le=MAX_WORKERS)] = 0  # warm processes that wait
    min_workers: Count = 1  # with fewer the run ends with exit 75
    stages: Annotated[int, Meta(ge=1, le=5)] = 1  # parts that the model is cut into
    backups: Index | tuple[Index, ...] | None = None  # members of a stage besides its leader; a list: stage by stage
    role: Literal["replica", "standby"] = "replica"  # what backups do: compute too, or follow the leader's updates
    respawn: bool = True  # start a new process when members are missing and no spare is left
    max_respawns: Index = 64  # over the whole run

    def __post_init__(self) -> None:
        given = (self.backups,) * self.stages if isinstance(self.backups, int) else self.backups
        if given is not None and len(given) != self.stages:
            raise ValueError(f"layout.backups is for {len(given)} stages, layout.stages is {self.stages}")
        if self.stages == 1 and given is not None:
            raise ValueError("layout.backups goes with stages: with one stage every worker computes")
        needed = self.stages + sum(given) if given is not None else max(self.stages, 0 if self.stages > 1 else 4)
        if not self.workers:
            msgspec.structs.force_setattr(self, "workers", needed)
        if self.stages > self.workers:
            raise ValueError(f"layout.stages is {self.stages}, more than layout.workers, {self.workers}")
        if given is not None and self.workers != needed:
            raise ValueError(
                f"layout.workers is {self.workers}, but {self.stages} stages with these backups have {needed} members"
            )
        if self.min_workers > self.workers:
            raise ValueError(f"layout.min_workers is {self.min_workers}, more than layout.workers, {self.workers}")

    @property
    def standby(self) -> bool:
        return self.role == "standby"

    def sizes(self, costs: Sequence[float]) -> tuple[int, ...]:
        """Members wanted for each stage: as `backups` says, else more where a stage costs more."""
        if self.backups is None:
            return share_members(costs, self.workers)
        given = (self.backups,) * self.stages if isinstance(self.backups, int) else self.backups
        return tuple(1 + backups for backups in given)


class WatchConfig(Section, frozen=True):
    """Limits of the hang watch: a worker is stuck when its progress stands still for this long."""

    floor_s: Positive = 1.0
    step_factor: Positive = 3.0  # times the longest pause seen lately, when that is more than the floor
    stall_s: Positive = 30.0  # everybody alive and nobody moving: regroup
    enabled: bool = True


class CommitConfig(Section, frozen=True):
    policy: str = "auto"  # how often each tier keeps the state: see `core.commit_policy`
    keep: Count = 2  # the newest whole commits that stay
    keep_s: Positive | None = None  # seconds after which a commit goes, unless it is the newest; None: never
    mtbf_s: Positive | None = None  # mean seconds between losses of a host or of the launcher; None: as published

    def __post_init__(self) -> None:
        try:
            parse_policy(self.policy)
        except ConfigError as error:
            raise ValueError(f"commit.policy: {error}") from error


class LauncherConfig(Section, frozen=True):
    kind: Literal["mpirun"] = "mpirun"
    hosts: str | None = None  # as mpirun's --host; None: this machine
    network: str | None = None  # CIDR of the network between the hosts
    agent: str = "ssh"  # runs a command on a host: `agent HOST COMMAND`
    restarts: Index = 3  # of mpirun, when it or a host is lost: the run goes on with the hosts that answer
    mpirun_args: tuple[str, ...] = ()
    join_timeout_s: Positive = 120.0  # until all workers have met


class RunConfig(Section, frozen=True):
    """Everything a run depends on; written to the run folder as `config.yaml`."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    layout: LayoutConfig = LayoutConfig()
    watch: WatchConfig = WatchConfig()
    commit: CommitConfig = CommitConfig()
    launcher: LauncherConfig = LauncherConfig()
    steps: Count | None = None  # optimizer steps in all; None: what `epochs` gives
    epochs: Count = 6
    eval_every_epochs: Index = 0  # 0: only at the end
    seed: Index = 0
    schedule: str | None = None  # fault schedule (YAML)

    def __post_init__(self) -> None:
        if self.layout.stages > 1 and self.data.micro_batch and self.data.batch_size % self.data.micro_batch:
            raise ValueError(
                f"data.micro_batch is {self.data.micro_batch}, which does not divide data.batch_size, "
                f"{self.data.batch_size}"
            )
        if self.data.name in ("cifar10", "mnist", "imagefolder") and not self.data.root:
            raise ValueError(f"data.name {self.data.name} needs data.root, the folder of its files")
