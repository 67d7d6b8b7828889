"""A model's state as one contiguous tensor.

Parameters, momentum and the running statistics of normalisation lie one behind the other in `state`; the model and the
optimizer work on views of it. So a transfer, a copy or a hash of everything is one pass over one buffer. Gradients lie
in a buffer of their own, and their sums over all workers in another, so that a worker's own gradients outlive a sum
that fails.

    state   [ parameters | momentum | running statistics ]
    grad    [ parameters | running statistics | lane ]     this worker's part of the step
    summed  [ parameters | running statistics | lane ]     the sum over all workers

The lane is for whatever else is to be summed in a step. It and the statistics are known when the last forward pass is
over and lie behind the gradients that come first, those of the last layer: they cost no sum of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

MAX_LANE = 1 << 16


class FlatModel:
    """A model whose tensors are views of flat ones. All float32, on the model's device.

    `lane` is what of the lane is in use, none at first; see `use_lane`.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        running = [(name, b) for name, b in model.named_buffers() if b.is_floating_point() and _is_running(model, b)]
        self.parameters, self.statistics = [p for _, p in named], [b for _, b in running]
        self._shapes = [
            *((name, p.shape) for name, p in named),
            *((f"momentum.{name}", p.shape) for name, p in named),
            *((name, b.shape) for name, b in running),
        ]
        if any(t.dtype != torch.float32 for t in (*self.parameters, *self.statistics)):
            raise TypeError("parameters and statistics must be float32")
        device = self.parameters[0].device
        self.n_parameters = sum(p.numel() for p in self.parameters)
        n_statistics = sum(b.numel() for b in self.statistics)
        self.state = torch.zeros(2 * self.n_parameters + n_statistics, device=device)
        self.grad = torch.zeros(self.n_parameters + n_statistics + MAX_LANE, device=device)
        self.summed = torch.zeros_like(self.grad)
        self.weights, self.momentum, self.running = self.state.split(
            [self.n_parameters, self.n_parameters, n_statistics]
        )
        self.use_lane(0)
        self._adopt()

    def use_lane(self, length: int) -> None:
        """From now on the lane is this long. Raises ValueError above 65,536."""
        if length > MAX_LANE:
            raise ValueError(f"the lane has {MAX_LANE} places, not {length}")
        begin = self.n_parameters + self.running.numel()
        self.used = begin + length
        self.lane, self.summed_lane = self.grad[begin : self.used], self.summed[begin : self.used]

    def _adopt(self) -> None:
        """Move the model's values into `state` and let it work on views from now on."""
        with torch.no_grad():
            for parameter, view, grad in zip(
                self.parameters, self._views(self.weights), self._views(self.grad), strict=True
            ):
                view.copy_(parameter)
                parameter.data = view
                parameter.grad = grad
            self._local = torch.empty_like(self.running)  # the statistics the forward passes of this step change
            offset = 0
            for buffer in self.statistics:
                size = buffer.numel()
                self.running[offset : offset + size].copy_(buffer.flatten())
                buffer.data = self._local[offset : offset + size].view_as(buffer)
                offset += size
            self._local.copy_(self.running)

    def _views(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        offset = 0
        for parameter in self.parameters:
            size = parameter.numel()
            yield flat[offset : offset + size].view_as(parameter)
            offset += size

    def named(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """Cut a flat state into the model's tensors by name, momentum as `momentum.<name>`; views, in order."""
        sizes = [shape.numel() for _, shape in self._shapes]
        parts = state.split(sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes, parts, strict=True)}

    def touch(self) -> None:
        """Let the system provide the memory of everything, which it does only when something is written there."""
        self.summed.zero_()
        self.momentum.zero_()

    def clear(self) -> None:
        """Begin a step anew: no gradients, statistics as agreed."""
        self.grad[: self.n_parameters].zero_()
        self._local.copy_(self.running)

    def local_statistics(self) -> torch.Tensor:
        """A copy of this worker's running statistics in the middle of a step."""
        return self._local.clone()

    def restore_statistics(self, before: torch.Tensor) -> None:
        """Undo what a forward pass did to them."""
        self._local.copy_(before)

    def weigh_statistics(self, share: float) -> None:
        """Put this worker's statistics, times its share of the batch, behind its gradients, to be summed with them."""
        torch.mul(self._local, share, out=self.grad[self.n_parameters :][: self._local.numel()])

    def adopt_statistics(self) -> None:
        """The summed statistics become the agreed ones."""
        self.running.copy_(self.summed[self.n_parameters :][: self.running.numel()])

    def sha256(self) -> str:
        """Hash of all weights and running statistics, hexadecimal."""
        found = hashlib.sha256()
        for part in (self.weights, self.running):
            found.update(memoryview(part.detach().cpu().numpy()).cast("B"))
        return found.hexdigest()


class Buckets:
    """Contiguous slices of the gradients that are summed as soon as the backward pass has filled them.

    `started(name, source, target)` is called for each bucket, last layers first, during the backward pass that `arm`
    announced. The first one holds the running statistics and the lane as well: they must be there before.
    """

    def __init__(self, flat: FlatModel, bucket_bytes: int, started: Callable[[str, torch.Tensor, torch.Tensor], None]):
        self._flat, self._started = flat, started
        self._bounds = _bucket_bounds([p.numel() for p in flat.parameters], bucket_bytes // 4)
        owner = {index: b for b, (first, last) in enumerate(self._bounds) for index in range(first, last)}
        self.armed = False  # the rest is handed over by a backward pass or `flush`
        self._missing = [0] * len(self._bounds)
        self._next = 0  # buckets start one after the other, so that everybody starts them in the same order
        self._offsets = [0]
        for parameter in flat.parameters:
            self._offsets.append(self._offsets[-1] + parameter.numel())
        for index, parameter in enumerate(flat.parameters):
            parameter.register_post_accumulate_grad_hook(lambda _, b=owner[index]: self._filled(b))

    def arm(self) -> None:
        """The next backward pass completes this worker's gradients of the step."""
        self.armed, self._next = True, 0
        self._missing = [last - first for first, last in self._bounds]

    def disarm(self) -> None:
        """The backward pass was left; nothing of it is to be summed any more."""
        self.armed = False

    def _filled(self, bucket: int) -> None:
        if not self.armed:
            return
        self._missing[bucket] -= 1
        while self._next < len(self._missing) and not self._missing[self._next]:
            self._start_next()

    def flush(self) -> None:
        """Hand over what has not been: everything when no backward pass was armed."""
        if not self.armed:
            self._next = 0
        while self._next < len(self._bounds):
            self._start_next()
        self.armed = False

    def _start_next(self) -> None:
        bucket = self._next
        self._next += 1
        first, last = self._bounds[bucket]
        start, stop = self._offsets[first], self._offsets[last] if bucket else self._flat.used
        self._started(f"gradients {bucket}", self._flat.grad[start:stop], self._flat.summed[start:stop])


def _bucket_bounds(sizes: list[int], limit: int) -> list[tuple[int, int]]:
    """Runs of parameters of at least `limit` elements, from the last to the first: the order gradients come in."""
    bounds: list[tuple[int, int]] = []
    stop, size = len(sizes), 0
    for index in range(len(sizes) - 1, -1, -1):
        size += sizes[index]
        if size >= limit or index == 0:
            bounds.append((index, stop))
            stop, size = index, 0
    return bounds


def _is_running(model: nn.Module, buffer: torch.Tensor) -> bool:
    """Running statistics change in the forward pass; other buffers (fixed statistics, masks) do not."""
    return any(
        buffer is getattr(module, name, None)
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
        for name in ("running_mean", "running_var")
    )
