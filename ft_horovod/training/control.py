"""The control lane: a short vector that is summed with every step's gradients.

It carries the loss, the proof of the samples, and wishes: because everybody sees the same sum, everybody leaves the
step loop at the same boundary without a message of its own.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import torch


class Control(msgspec.Struct, frozen=True):
    """What each worker puts in, and what all get out summed. Sums of counts and digests are exact below 2**53."""

    loss: float = 0.0
    waited_s: float = 0.0  # for other stages
    samples: int = 0
    digest: int = 0
    correct: int = 0
    leave: int = 0  # workers that want to hand over and go
    invite: int = 0  # newcomers are wanted for members that are missing
    grow: int = 0  # newcomers are wanted on top
    ready: int = 0  # invited newcomers wait to be let in
    commit: int = 0  # it is time to commit to disk

    LENGTH: ClassVar[int] = 10

    def to_tensor(self) -> torch.Tensor:
        """float64 `[10]`."""
        return torch.tensor(msgspec.structs.astuple(self), dtype=torch.float64)

    @classmethod
    def from_tensor(cls, tensor: torch.Tensor) -> Control:
        loss, waited_s, *counts = tensor.tolist()
        return cls(loss, waited_s, *(round(count) for count in counts))

    @property
    def wants_change(self) -> bool:
        """Whether the membership is to change at this step's end."""
        return bool(self.leave or self.invite or self.grow or self.ready)
