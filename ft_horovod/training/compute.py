"""One worker's part of a step: forward and backward passes over its share, and what of it survives a failure.

Gradients of finished micro-batches are kept when a peer dies, so only the dead worker's samples are computed again.
When the loss becomes known in the middle of a micro-batch the worker finishes it if that costs less than starting
over, and leaves at the next layer otherwise. This module knows one worker and its gradients, not the others.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch
from torch import nn
from torch.nn import functional

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.samples import digest
from ft_horovod.core.spans import Spans
from ft_horovod.training.control import Control
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.sources import Batch


class ShareWork:
    """Computes gradients of one step, micro-batch by micro-batch, and knows which positions they cover."""

    def __init__(
        self,
        flat: FlatModel,
        buckets: Buckets,
        *,
        label_smoothing: float,
        beat: Callable[[], None],
        broken: Callable[[], bool],
    ):
        self._flat, self._buckets, self._smoothing = flat, buckets, label_smoothing
        self._beat, self._broken = beat, broken
        self.held = Spans()
        self.say(Control(), torch.empty(0))
        self._reset_books()
        self._patience = 1.0  # leave a micro-batch when a loss is heard of before this part of it is done
        self._ticks, self._ticks_per_batch = 0, 0
        self._watch_layers()

    def begin(self, finish_from: float) -> None:
        """A new step. `finish_from`: a micro-batch further than this part of it is finished in spite of a loss."""
        self._flat.clear()
        self._reset_books()
        self._patience = finish_from

    def _reset_books(self) -> None:
        self.held = Spans()
        self._samples, self._digest = 0, 0
        # Kept where they are computed: to read them in the middle of a step would make a GPU wait.
        self._loss = torch.zeros((), device=self._flat.state.device)
        self._correct = torch.zeros((), device=self._flat.state.device)

    @property
    def booked(self) -> Control:
        """The samples that this worker's gradients cover."""
        return Control(float(self._loss), int(self._correct), samples=self._samples, digest=self._digest)

    def say(self, wishes: Control, speeds: torch.Tensor) -> None:
        """What goes into the control lane besides the books of the samples."""
        self._wishes, self._speeds = wishes, speeds
        self._flat.use_lane(Control.LENGTH + len(speeds))

    def compute(self, positions: Spans, batch: Batch, step_samples: int, *, last: bool) -> None:
        """Add the gradients of `batch`, which are the samples at `positions`; `step_samples` are in the whole step.

        `last` lets finished buckets be summed during the backward pass. Raises WorkersLost when it is left half-way;
        `held` then says what the gradients still cover.
        """
        if self._broken():
            raise WorkersLost("a peer died")
        before = self._flat.local_statistics()
        device = self._flat.state.device
        labels = batch.labels.to(device)
        self._ticks = 0
        try:
            scores = self._flat.model(batch.images.to(device))
        except WorkersLost:
            self._flat.restore_statistics(before)
            raise
        loss = functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=self._smoothing) / step_samples
        self.held |= positions
        self._samples += len(batch.labels)
        self._digest += digest(batch.indices)
        self._loss += loss.detach()
        self._correct += (scores.detach().argmax(1) == labels).sum()
        if last:
            self._fill_tail(step_samples)
            self._buckets.arm()
        try:
            loss.backward()
        except WorkersLost:
            self._buckets.disarm()
            self.begin(self._patience)
            raise

    def hand_over(self, step_samples: int) -> None:
        """All of this worker's gradients are there: start summing what is not being summed yet."""
        if not self._buckets.armed:
            self._fill_tail(step_samples)
        self._buckets.flush()

    def _fill_tail(self, step_samples: int) -> None:
        """What is summed behind the gradients: statistics and the control lane."""
        self._flat.weigh_statistics(len(self.held) / step_samples)
        counts = msgspec.structs.replace(self._wishes, samples=self._samples, digest=self._digest)
        lane = self._flat.lane
        lane.copy_(torch.cat([counts.to_tensor(), self._speeds]))
        lane[0], lane[1] = self._loss, self._correct

    def _watch_layers(self) -> None:
        """Beat at every layer with weights, forward and backward; backward counts double, as it costs."""
        layers = [m for m in self._flat.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        self._ticks_per_batch = 3 * len(layers)
        for layer in layers:
            layer.register_forward_pre_hook(lambda *_: self._tick(1))
            layer.weight.register_post_accumulate_grad_hook(lambda _: self._tick(2))

    def _tick(self, cost: int) -> None:
        self._beat()
        self._ticks += cost
        if self._flat.model.training and self._broken() and self._ticks < self._patience * self._ticks_per_batch:
            raise WorkersLost("a peer died; this micro-batch is not worth finishing")


def finish_from(members: int, spares: int) -> float:
    """From which part on a micro-batch in hand is worth finishing when one of `members` is lost.

    Finishing costs the rest of it and then the lost share, dealt out to everybody; starting over costs it all, dealt
    out to everybody. With a spare the two are equal at 1/members; without one finishing is never worse.
    """
    return 1 / members if spares else 0.0
