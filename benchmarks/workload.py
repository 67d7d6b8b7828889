"""The work that Horovod without our trainer is given: the same model, samples, shares and loading as ours.

For `plain_horovod` and `stock_elastic`, which add only what is Horovod's. Knows the model and the data of a
configuration, not who takes part.
"""

from __future__ import annotations

import os

import torch
from torch.nn import functional

from ft_horovod.core.config import RunConfig
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import share_out
from ft_horovod.training.data import Prefetcher, open_data
from ft_horovod.training.models import build_model
from ft_horovod.training.rates import learning_rate
from ft_horovod.training.sources import Batch, Indices


class Workload:
    """Model, optimizer and data of a configuration, on the CPU."""

    def __init__(self, config: RunConfig):
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._config = config
        data = open_data(config.data, config.seed)
        self.model = build_model(config.model, data.classes, data.channels, config.seed).train()
        self.order = SampleOrder(len(data.train), config.data.batch_size, config.seed)
        self.steps = config.steps or config.epochs * self.order.steps_per_epoch
        self._prefetch = Prefetcher(data.train)
        self._asked: tuple[int, int, int] | None = None

    def sgd(self) -> torch.optim.SGD:
        """The optimizer the configuration asks for."""
        wanted = self._config.optimizer
        return torch.optim.SGD(
            self.model.parameters(),
            lr=wanted.lr,
            momentum=wanted.momentum,
            weight_decay=wanted.weight_decay,
            nesterov=wanted.nesterov,
        )

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self._config.optimizer, self.order.batch, step, self.steps, self.order.steps_per_epoch)

    def batch(self, step: int, rank: int, size: int) -> Batch:
        """This rank's share of a step's samples; that of the next step is loaded meanwhile."""
        if self._asked != (step, rank, size):
            self._prefetch.discard()
            self._ask(step, rank, size)
        batch = self._prefetch.get()
        self._ask(step + 1, rank, size)
        return batch

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss of a batch; Horovod averages the gradients."""
        return functional.cross_entropy(self.model(batch.images), batch.labels)

    def _ask(self, step: int, rank: int, size: int) -> None:
        epoch = self.order.epoch(step)
        self._prefetch.request(self._share(step, rank, size), epoch)
        self._asked = (step, rank, size)

    def _share(self, step: int, rank: int, size: int) -> Indices:
        positions = share_out(self.order.positions(step), [1.0] * size)[rank]
        return self.order.indices(self.order.epoch(step), positions)
