"""The learning rate against values worked out by hand, and the sample configurations."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest

from ft_horovod.core.config import OptimizerConfig, RunConfig
from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.schedule import FaultSchedule, resolve
from ft_horovod.training.rates import learning_rate

CONFIGS = Path(__file__).parents[2] / "configs"
STEP_DECAY = OptimizerConfig(lr=0.1, lr_batch=256, schedule="step", warmup_steps=50, decay_epochs=(30, 60, 80))
COSINE = OptimizerConfig(lr=0.05, lr_batch=64, schedule="cosine", warmup_steps=10)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 0.4 / 50),
        (24, 0.4 / 2),
        (49, 0.4),
        (50, 0.4),
        (299, 0.4),
        (300, 0.04),
        (599, 0.04),
        (600, 0.004),
        (800, 0.0004),
        (899, 0.0004),
    ],
)
def test_step_decay_with_warm_up_and_linear_scaling(step: int, expected: float) -> None:
    """A batch of 1,024 at 0.1 per 256 is 0.4; ten steps an epoch."""
    assert learning_rate(STEP_DECAY, 1024, step, 900, 10) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.005), (9, 0.05), (10, 0.05), (35, 0.05 * (1 + math.sqrt(0.5)) / 2), (60, 0.025), (110, 0.0), (500, 0.0)],
)
def test_cosine(step: int, expected: float) -> None:
    assert learning_rate(COSINE, 64, step, 110, 22) == pytest.approx(expected, abs=1e-12)


def test_constant_scales_with_the_batch() -> None:
    config = OptimizerConfig(lr=0.3, lr_batch=100, schedule="constant")
    assert [learning_rate(config, batch, 7, 10, 5) for batch in (50, 100, 400)] == pytest.approx([0.15, 0.3, 1.2])


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_rises_to_the_end_of_the_warm_up_and_never_jumps_there(schedule: str) -> None:
    config = OptimizerConfig(lr=0.1, lr_batch=32, schedule=schedule, warmup_steps=20, decay_epochs=(8,))
    rates = [learning_rate(config, 32, step, 1000, 100) for step in range(1000)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[0] > 0
    assert rates[19] == rates[20] == 0.1
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[20:]))
    assert min(rates) > 0


def test_warm_up_longer_than_the_run() -> None:
    config = OptimizerConfig(lr=0.1, lr_batch=1, schedule="cosine", warmup_steps=10)
    assert [learning_rate(config, 1, step, 5, 5) for step in range(5)] == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05])


@pytest.mark.parametrize(
    ("batch", "step", "steps", "per_epoch"), [(1, -1, 5, 5), (0, 0, 5, 5), (1, 0, 0, 5), (1, 0, 5, 0)]
)
def test_impossible_steps_are_refused(batch: int, step: int, steps: int, per_epoch: int) -> None:
    with pytest.raises(ValueError, match="no step"):
        learning_rate(COSINE, batch, step, steps, per_epoch)


def sample(name: str) -> RunConfig:
    return decode_yaml((CONFIGS / name).read_text(), RunConfig, source=name)


@pytest.mark.parametrize("name", ["demo.yaml", "cifar10.yaml", "imagefolder.yaml"])
def test_sample_configs_are_valid(name: str) -> None:
    sample(name)


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.1 / 25025), (5, 0.1), (29, 0.1), (30, 0.01), (60, 0.001), (80, 0.0001), (89, 0.0001)]
)
def test_the_imagenet_recipe(epoch: int, expected: float) -> None:
    config = sample("imagefolder.yaml")
    per_epoch = -(-1_281_167 // config.data.batch_size)
    rate = learning_rate(
        config.optimizer, config.data.batch_size, epoch * per_epoch, config.epochs * per_epoch, per_epoch
    )
    assert rate == pytest.approx(expected)


def test_the_demo_kills_two_and_hangs_one_across_the_run() -> None:
    config = sample("demo.yaml")
    assert config.schedule
    order = SampleOrder(1437, config.data.batch_size, config.seed)
    steps = config.epochs * order.steps_per_epoch
    schedule = decode_yaml((CONFIGS / config.schedule).read_text(), FaultSchedule, source=config.schedule)
    faults = resolve(schedule, config.layout.workers + config.layout.spares, steps=steps)
    assert [fault.kind for fault in faults] == ["kill", "hang", "kill"]
    assert [round(4 * (fault.step or 0) / steps) for fault in faults] == [1, 2, 3]
    assert len({fault.worker for fault in faults}) == 3
    assert len(order.positions(steps - 1)) >= config.data.batch_size / 2  # no tiny last batch for batch norm
