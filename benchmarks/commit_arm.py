"""What `commit.py` compares: the state of a real ResNet-50 with momentum, and what a way of keeping it must offer.

This module knows one process's state and how it trains on; it knows no way of keeping it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec
import torch
from torch import nn
from torch.nn import functional

from ft_horovod.core.config import ModelConfig
from ft_horovod.training.models import build_model

CLASSES, CHANNELS, BATCH, PIXELS = 1000, 3, 8, 32


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """One commit: how long the caller stood still, how long until it can be relied on, and how much was kept."""

    stall_s: float
    complete_s: float
    size_bytes: int


class TrainingState:
    """ResNet-50 and SGD with momentum: 205 MB, and a step of training.

    Group normalisation: running statistics would change in the forward pass, while a copy is under way. The trainer
    keeps those apart until the update (`ft_horovod.training.flat`).

    With `flat` all of it, momentum and running statistics too, are views of the one tensor `everything`, as in
    `ft_horovod.training.flat`; without, `everything` is empty and each tensor is for itself, as PyTorch makes them.
    """

    def __init__(self, *, flat: bool):
        self.model: nn.Module = build_model(
            ModelConfig(name="resnet50", norm="group"), CLASSES, CHANNELS, seed=0
        ).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        generator = torch.Generator().manual_seed(1)
        self._images = torch.randn(BATCH, CHANNELS, PIXELS, PIXELS, generator=generator)
        self._labels = torch.randint(CLASSES, (BATCH,), generator=generator)
        self.before_update: Callable[[], None] = lambda: None  # called when gradients are there
        self.step()  # there is momentum from now on
        self.everything = torch.empty(0)
        if flat:
            self._flatten()

    def step(self) -> None:
        """Train on, as a caller does while a commit is being written."""
        self.optimizer.zero_grad()
        functional.cross_entropy(self.model(self._images), self._labels).backward()
        self.before_update()
        self.optimizer.step()

    def tensors(self) -> Iterator[torch.Tensor]:
        """All that a commit must hold."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        for parameter in self.model.parameters():
            yield self.optimizer.state[parameter]["momentum_buffer"]

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def digest(self) -> str:
        """Of every bit of the state."""
        found = hashlib.sha256()
        for tensor in self.tensors():
            found.update(tensor.detach().contiguous().reshape(-1).numpy().view("u1").data)
        return found.hexdigest()

    @torch.no_grad()
    def wipe(self) -> None:
        """Nothing of the state is left."""
        for tensor in self.tensors():
            tensor.zero_()

    @torch.no_grad()
    def _flatten(self) -> None:
        """Lay everything in one tensor. The few whole numbers, of batches seen, go in as their bits, and first."""
        tensors = sorted(self.tensors(), key=lambda tensor: -tensor.itemsize)
        self.everything = torch.empty(sum(tensor.nbytes for tensor in tensors) // 4)
        offset = 0
        for tensor in tensors:
            length = tensor.nbytes // 4
            view = self.everything[offset : offset + length].view(tensor.dtype).view(tensor.shape)
            view.copy_(tensor)
            tensor.data = view
            offset += length


class Arm(Protocol):
    """A way of keeping the state. Made once a process, with a folder of its own that is empty at first."""

    def save(self, state: TrainingState, meanwhile: Callable[[], None]) -> Saved:
        """Keep the state of now; what is not done when the caller may go on is waited for by calling `meanwhile`.

        `meanwhile` trains, so it changes the state.
        """

    def restore(self, state: TrainingState) -> float:
        """Put what was saved last into `state`; returns the seconds that took."""

    def close(self) -> None:
        """Let go of everything outside the folder."""


class ArmKind(msgspec.Struct, frozen=True):
    """An arm as the tables call it, how it is made, and whether it wants the state in one tensor."""

    name: str
    make: Callable[..., Arm]
    flat: bool = False
