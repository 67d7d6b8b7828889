"""The learning rate of a step, as a pure function: resuming and recovering need no scheduler state.

This module knows the recipe and the number of the step, not optimizers or workers.
"""

from __future__ import annotations

import math

from ft_horovod.core.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, batch_size: int, step: int, steps: int, steps_per_epoch: int) -> float:
    """The rate of `step`, counted from 0 over a run of `steps`.

    The full rate is `lr * batch_size / lr_batch` (linear scaling, Goyal et al. 2017). Step 0 gets 1 / warmup_steps of
    it, the last step of the warm-up all of it. From there it stays, or falls by `decay_factor` at each of
    `decay_epochs` (counted from step 0), or follows half a cosine that would reach 0 at `steps` (Loshchilov & Hutter
    2017). `batch_size` is that of a full step: the smaller last one of an epoch has the same rate.

    Raises ValueError for a step below 0, or counts below 1.
    """
    if step < 0 or min(batch_size, steps, steps_per_epoch) < 1:
        raise ValueError(f"no step {step} of {steps}, {steps_per_epoch} an epoch, in batches of {batch_size}")
    full = config.lr * batch_size / config.lr_batch
    if step < config.warmup_steps:
        return full * (step + 1) / config.warmup_steps
    match config.schedule:
        case "constant":
            return full
        case "step":
            passed = sum(step >= epoch * steps_per_epoch for epoch in config.decay_epochs)
            return full * config.decay_factor**passed
        case "cosine":
            # A warm-up as long as the run leaves nothing to anneal; a step past the end stays at 0.
            progress = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
            return full * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
