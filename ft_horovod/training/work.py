"""What the acts of training ask of the work of a step, whether the model is in one piece or split over stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import Spans
from ft_horovod.membership.board import Pulse
from ft_horovod.training.control import Control
from ft_horovod.training.speeds import Speeds


@dataclass(frozen=True)
class StepInHand:
    """What a new group finds of the step that failed: positions its members hold gradients of, and who does the rest.

    A micro-batch costs much the same however small it is. So members that share processors leave the rest to as many of
    them as there are processors, and `takers` are these.
    """

    claimed: Spans
    takers: tuple[WorkerId, ...]


@dataclass(frozen=True)
class SignsOfLife:
    """How work shows that it goes on: `pulse` is told the phases, `beat` is called at every layer and every poll."""

    pulse: Pulse
    beat: Callable[[], None]


class Work(Protocol):
    """One worker's part of steps and evaluations. All its waits raise MembershipError when the group breaks."""

    order: SampleOrder
    speeds: Speeds
    steps: int
    n_parameters: int  # of the whole model

    @property
    def held(self) -> Spans:
        """Positions of the step in hand whose gradients this worker has and would keep through a failure."""
        ...

    def warm_up(self) -> None:
        """Compute once for nothing: libraries prepare their kernels, and a spare's first step is as fast as any."""
        ...

    def measure(self) -> tuple[float, ...]:
        """What each unit of the model costs on this worker, in seconds; () when nothing depends on it."""
        ...

    def state_of(self, stage: int, costs: tuple[float, ...]) -> torch.Tensor:
        """This worker's flat state of a stage, for the units' agreed costs."""
        ...

    def named(self, stage: int, costs: tuple[float, ...]) -> dict[str, torch.Tensor]:
        """The same as views under the model's names, in the order of the flat state."""
        ...

    def enter(self, layout: Layout, found: StepInHand, costs: tuple[float, ...]) -> None:
        """A new group holds."""
        ...

    def forget(self) -> None:
        """Gradients of before are worth nothing."""
        ...

    def compute(self, step: int, wishes: Control) -> Control:
        """Compute this worker's gradients of `step`, sum them, and return what was counted and wished by all."""
        ...

    def sum_up(self, name: str, mine: Control) -> Control:
        """Sum what was counted outside of steps."""
        ...

    def update(self, step: int) -> float:
        """All sums are there: take the step. Returns the learning rate."""
        ...

    def evaluate(self) -> Control:
        """This worker's part of an evaluation over the test set: samples and how many were right."""
        ...

    def weights_sha256(self) -> str:
        """Hash of the weights and running statistics of the whole model; all members ask together."""
        ...
