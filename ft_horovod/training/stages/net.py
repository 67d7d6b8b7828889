"""A model cut into stages, and what each part of it costs.

Every model here has the children of a ResNet (see `training.models`); they are grouped into units that are never cut:
the stem with its pooling, the four layers, the last with the head. A stage is a run of units under their own names, so
that a stage's tensors are called what they are called in the whole model. This module knows layers, not workers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import nn

UNITS = (("conv1", "bn1", "relu", "maxpool"), ("layer1",), ("layer2",), ("layer3",), ("layer4", "avgpool", "fc"))


class StageNet(nn.Module):
    """The units `[first, stop)` of a model; shares the model's modules."""

    def __init__(self, model: nn.Module, first: int, stop: int):
        super().__init__()
        for unit in UNITS[first:stop]:
            for name in unit:
                self.add_module(name, model.get_submodule(name))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images or the activations of the stage before, `[batch, channels, h, w]`, to activations or logits."""
        for name, child in self.named_children():
            x = child(torch.flatten(x, 1) if name == "fc" else x)
        return x


def unit_shapes(model: nn.Module, image: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """What goes into each unit, for one sample: shapes without the batch; the last is the logits'."""
    shapes: list[tuple[int, ...]] = [image]
    training = model.training
    x = torch.zeros(1, *image, device=next(model.parameters()).device)
    with torch.inference_mode():
        for unit in _units(model.eval()):
            x = unit(x)
            shapes.append(tuple(x.shape[1:]))
    model.train(training)
    return shapes


def measure_costs(model: nn.Module, image: tuple[int, int, int], samples: int, times: int) -> tuple[float, ...]:
    """Seconds that a forward and backward pass of so many samples takes in each unit, the least of some tries."""
    training = model.training
    device = next(model.parameters()).device
    best = [float("inf")] * len(UNITS)
    for _ in range(times):
        x = torch.rand(samples, *image, generator=torch.Generator().manual_seed(0)).to(device)
        for number, unit in enumerate(_units(model.eval())):  # evaluation: no statistics are changed
            started = time.perf_counter()
            y = unit(x.detach().requires_grad_())
            y.backward(torch.ones_like(y))
            best[number] = min(best[number], time.perf_counter() - started)
            x = y
    model.zero_grad(set_to_none=True)
    model.train(training)
    return tuple(best)


def _units(model: nn.Module) -> Iterator[StageNet]:
    return (StageNet(model, number, number + 1) for number in range(len(UNITS)))
