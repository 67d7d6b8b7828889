"""What happens at the two ends of the pipelines in a step: samples come in, losses come out, both are counted.

The first stage loads images and proves which; the last one needs their labels alone. This module knows samples and
scores, not stages or messages.
"""

from __future__ import annotations

import msgspec
import numpy as np
import torch
from torch.nn import functional

from ft_horovod.core.samples import Indices, SampleOrder, digest
from ft_horovod.training.control import Control
from ft_horovod.training.data import Source
from ft_horovod.training.loader import Loader, Part
from ft_horovod.training.stages.pipeline import MicroBatch


class Ends:
    """Both ends of one step, as one worker sees them; each uses the end it is at."""

    def __init__(self) -> None:
        self.loss, self.samples, self.digest, self.correct = 0.0, 0, 0, 0

    def add_to(self, wishes: Control) -> Control:
        """What was counted, besides these wishes."""
        return msgspec.structs.replace(
            wishes, loss=self.loss, samples=self.samples, digest=self.digest, correct=self.correct
        )


class TrainingEnds(Ends):
    """A training step."""

    def __init__(
        self, step: int, parts: list[Part], loader: Loader, order: SampleOrder, source: Source, smoothing: float
    ):
        """`parts`: what this worker loads, in order, if it is at the first stage, and what it will load after that."""
        super().__init__()
        self._step, self._order, self._source, self._smoothing = step, order, source, smoothing
        self._parts, self._loader = parts, loader

    def images(self, one: MicroBatch) -> torch.Tensor:
        """Images of a micro-batch, `[n, channels, size, size]`."""
        here = self._parts.index((self._step, one.positions))
        batch = self._loader.get(self._parts[here], next(iter(self._parts[here + 1 :]), None))
        self.samples += len(batch.labels)
        self.digest += digest(batch.indices)
        return batch.images

    def finish(self, one: MicroBatch, scores: torch.Tensor) -> torch.Tensor:
        """This micro-batch's part of the step's mean loss, from scores `[n, classes]`."""
        labels = self._source.labels(self._order.indices(self._order.epoch(self._step), one.positions))
        labels = labels.to(scores.device)
        loss = functional.cross_entropy(scores, labels, reduction="sum", label_smoothing=self._smoothing)
        loss = loss / len(self._order.positions(self._step))
        self.loss += float(loss.detach())
        self.correct += int((scores.detach().argmax(1) == labels).sum())
        return loss


class TestEnds(Ends):
    """An evaluation over the test set, whose samples are their own positions."""

    def __init__(self, test: Source):
        super().__init__()
        self._test = test

    def images(self, one: MicroBatch) -> torch.Tensor:
        """Images of a micro-batch, `[n, channels, size, size]`."""
        return self._test.batch(_indices(one), 0).images

    def finish(self, one: MicroBatch, scores: torch.Tensor) -> torch.Tensor:
        """Count how many scores `[n, classes]` are right."""
        self.correct += int((scores.argmax(1).cpu() == self._test.labels(_indices(one))).sum())
        self.samples += len(one.positions)
        return scores


def _indices(one: MicroBatch) -> Indices:
    return np.fromiter(one.positions, np.int64)
