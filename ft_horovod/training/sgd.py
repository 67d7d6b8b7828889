"""SGD with momentum over a model's flat state: torch's arithmetic without its `Optimizer`.

The first use of a torch `Optimizer` imports torch's compiler, a second and more of every worker's start. This module
knows the update; which rate a step has is `rates`'s.
"""

from __future__ import annotations

import torch
from torch.optim.sgd import sgd

from ft_horovod.core.config import OptimizerConfig
from ft_horovod.training.flat import FlatModel


class FlatSGD:
    """Updates `flat.weights` and `flat.momentum` from `flat.summed`."""

    def __init__(self, flat: FlatModel, config: OptimizerConfig):
        self._flat, self._config = flat, config

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One update; see torch.optim.SGD for the formulas. A momentum of zeros stands for one not begun."""
        flat, config = self._flat, self._config
        sgd(
            [flat.weights],
            [flat.summed[: flat.n_parameters]],
            [flat.momentum if config.momentum else None],
            foreach=False,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=config.nesterov,
            maximize=False,
        )
