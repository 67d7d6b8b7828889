"""The flat state: what the model and the optimizer see of it, and what is handed over when."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from ft_horovod.core.config import ModelConfig, OptimizerConfig
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.models import build_model
from ft_horovod.training.sgd import FlatSGD

Started = list[tuple[str, torch.Tensor, torch.Tensor]]


def tiny(norm: str = "batch") -> nn.Module:
    return build_model(ModelConfig(name="tiny", norm=norm), 10, 1, seed=3).train()  # type: ignore[arg-type]


def images(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 1, 32, 32, generator=random), torch.randint(0, 10, (count,), generator=random)


def test_the_model_computes_the_same_as_before_and_sees_changes_of_the_state() -> None:
    x, _ = images()
    plain, model = tiny().eval(), tiny().eval()
    flat = FlatModel(model)
    flat.clear()
    assert torch.equal(model(x), plain(x))
    flat.weights.zero_()
    assert all(not parameter.any() for parameter in model.parameters())


def test_steps_equal_those_of_an_ordinary_optimizer() -> None:
    x, y = images()
    plain, model = tiny(), tiny()
    flat = FlatModel(model)
    usual = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    ours = FlatSGD(flat, OptimizerConfig(momentum=0.9, weight_decay=1e-3, nesterov=True))
    for _ in range(3):
        usual.zero_grad()
        functional.cross_entropy(plain(x), y).backward()
        usual.step()
        flat.clear()
        functional.cross_entropy(model(x), y).backward()
        flat.weigh_statistics(1.0)
        flat.summed.copy_(flat.grad)  # one worker: the sum is its own
        ours.step(0.1)
        flat.adopt_statistics()
    torch.testing.assert_close(flat.weights, torch.cat([p.detach().flatten() for p in plain.parameters()]))
    # Statistics are of the last forward pass, one step's worth of which is in `running` each time.
    expected = [b.flatten() for name, b in plain.named_buffers() if "running" in name]
    torch.testing.assert_close(flat.running, torch.cat(expected))


def test_named_tensors_cover_the_state_in_order() -> None:
    flat = FlatModel(tiny())
    named = flat.named(flat.state)
    assert torch.equal(torch.cat([tensor.flatten() for tensor in named.values()]), flat.state)
    names = [name for name, _ in tiny().named_parameters()]
    assert list(named)[: 2 * len(names)] == names + [f"momentum.{name}" for name in names]
    named["fc.bias"].fill_(7.0)
    assert (flat.named(flat.state)["fc.bias"] == 7).all()


def test_a_hash_that_sees_weights_and_statistics_but_no_momentum() -> None:
    one, two = FlatModel(tiny()), FlatModel(tiny())
    assert one.sha256() == two.sha256()
    two.momentum.fill_(1.0)
    assert one.sha256() == two.sha256()
    two.running[0] += 1
    changed = two.sha256()
    two.weights[0] += 1
    assert len({one.sha256(), changed, two.sha256()}) == 3


def test_statistics_are_undone_and_weighed() -> None:
    x, _ = images()
    model = tiny()
    flat = FlatModel(model)
    before = flat.local_statistics()
    model(x)
    after = flat.local_statistics()
    assert not torch.equal(before, after)
    flat.weigh_statistics(0.25)
    assert torch.equal(flat.grad[flat.n_parameters :][: len(after)], after * 0.25)
    flat.restore_statistics(before)
    assert torch.equal(flat.local_statistics(), before)


def covered(started: Started, flat: FlatModel) -> list[int]:
    """How often each element of the gradients and of the lane was handed over."""
    counts = torch.zeros_like(flat.grad, dtype=torch.int64)
    for _, source, target in started:
        offset = source.storage_offset()
        assert source.data_ptr() == flat.grad.data_ptr() + 4 * offset
        assert target.data_ptr() == flat.summed.data_ptr() + 4 * offset
        counts[offset : offset + source.numel()] += 1
    assert not counts[flat.used :].any()
    return counts[: flat.used].unique().tolist()


@pytest.mark.parametrize("bucket_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("armed", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_buckets_hand_everything_over_once(bucket_bytes: int, armed: bool, norm: str) -> None:
    x, y = images()
    flat = FlatModel(tiny(norm))
    flat.use_lane(5)
    started: Started = []
    buckets = Buckets(flat, bucket_bytes, lambda name, source, target: started.append((name, source, target)))
    flat.clear()
    functional.cross_entropy(flat.model(x), y).backward()
    assert started == []  # nobody announced that this pass is the last
    if armed:
        buckets.arm()
        functional.cross_entropy(flat.model(x), y).backward()
        during = len(started)
        assert during == len({name for name, *_ in started}) > 0
    buckets.flush()
    assert covered(started, flat) == [1]
    if bucket_bytes == 1:
        offsets = [source.storage_offset() for _, source, _ in started]
        assert offsets == sorted(offsets, reverse=armed) or not armed  # the last layers come first


def test_a_lane_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="65536 places, not 65537"):
        FlatModel(tiny()).use_lane(65537)


def test_only_float32_is_taken() -> None:
    with pytest.raises(TypeError, match="float32"):
        FlatModel(tiny().double())
