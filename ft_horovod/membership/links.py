"""What a stage's work asks of the links between members.

Each stage's group has a communicator of its own, and so has each pipeline; in a pipeline a worker's place is its
stage's number. As everywhere: after `MembershipError` the only next call is `Membership.regroup`.
"""

from __future__ import annotations

from typing import Protocol

import torch

from ft_horovod.core.pipelines import Pipeline
from ft_horovod.membership.protocol import Handle


class Links(Protocol):
    """One member's links. Tensors are contiguous, on the CPU, and must stay until their handle is done."""

    @property
    def ways(self) -> tuple[Pipeline, ...]:
        """All pipelines of the layout, those of others too."""
        ...

    def send(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """Start sending to the worker of `stage` on pipeline `way`. Raises MembershipError."""
        ...

    def receive(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """Start receiving from the worker of `stage` on pipeline `way`. Raises MembershipError."""
        ...

    def sum_group(self, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """Start summing over the members of this stage's group. Raises MembershipError."""
        ...

    def follow_leader(self, tensor: torch.Tensor) -> Handle:
        """Start copying the leader's tensor to its backups. Raises MembershipError."""
        ...

    def agree(self) -> Handle:
        """Start agreeing with all members that everything so far went well: done for all, or an error for all.

        While it is under way nothing else is to be asked, `check` included: others may have gone on already.
        """
        ...

    def check(self) -> None:
        """Let what is under way proceed. Raises MembershipError when the membership no longer holds."""
        ...
