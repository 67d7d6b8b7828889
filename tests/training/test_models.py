"""Networks: shapes, initial values, and whether the samples of a batch see each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from ft_horovod.core.config import ModelConfig, ModelName, NormName
from ft_horovod.training.models import FixedNorm2d, build_model

NORMS: tuple[NormName, ...] = ("batch", "group", "frozen")
CHILDREN = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def images(samples: int, channels: int = 3, size: int = 32, seed: int = 5) -> torch.Tensor:
    return torch.randn(samples, channels, size, size, generator=torch.Generator().manual_seed(seed))


def with_active_branches(model: nn.Module) -> nn.Module:
    """Give the residual branches, silent at first, something to say."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bn2.weight", "bn3.weight")):
                parameter.fill_(0.5)
    return model


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("name", "channels"), [("tiny", 1), ("tiny", 3), ("resnet18", 1), ("resnet18", 3)])
def test_output_shape_and_children(name: ModelName, channels: int, norm: NormName) -> None:
    model = build_model(ModelConfig(name=name, norm=norm), 7, channels, seed=0)
    assert model(images(3, channels)).shape == (3, 7)
    assert [child for child, _ in model.named_children()] == CHILDREN
    assert model.training
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032), ("resnet101", 44_549_160)],
)
def test_resnets_have_the_published_number_of_parameters(name: ModelName, parameters: int) -> None:
    model = build_model(ModelConfig(name=name), 1000, 3, seed=0)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_is_tiny(norm: NormName) -> None:
    model = build_model(ModelConfig(name="tiny", norm=norm), 10, 3, seed=0)
    assert sum(p.numel() for p in model.parameters()) < 100_000


@pytest.mark.parametrize(("name", "norm"), [("tiny", "group"), ("resnet18", "batch"), ("resnet18", "frozen")])
def test_same_seed_same_bits_whatever_the_global_random_state(name: ModelName, norm: NormName) -> None:
    config = ModelConfig(name=name, norm=norm)
    torch.manual_seed(1)
    first = build_model(config, 10, 1, seed=3).state_dict()
    torch.manual_seed(2)
    expected = torch.random.get_rng_state()
    second, other = build_model(config, 10, 1, seed=3).state_dict(), build_model(config, 10, 1, seed=4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
@pytest.mark.parametrize("norm", NORMS)
def test_only_batch_norm_couples_the_batch(name: ModelName, norm: NormName) -> None:
    model = with_active_branches(build_model(ModelConfig(name=name, norm=norm), 10, 3, seed=0))
    one, others = images(1), images(7, seed=6)
    with torch.no_grad():
        among_these = model(torch.cat([one, others]))[0]
        among_those = model(torch.cat([one, 3 * others + 1]))[0]
    distance = float((among_these - among_those).abs().max() / among_these.abs().max())
    assert distance > 0.01 if norm == "batch" else distance < 1e-5


@pytest.mark.parametrize("norm", NORMS)
def test_a_share_of_one_sample_can_be_trained_on(norm: NormName) -> None:
    model = build_model(ModelConfig(name="resnet18", norm=norm), 10, 3, seed=0)
    last_before = {k: v.clone() for k, v in model.layer4[1].state_dict().items() if "running" in k}
    functional.cross_entropy(model(images(1)), torch.tensor([3])).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.fc.weight.grad.abs().sum() > 0
    after = model.layer4[1].state_dict()
    assert all(torch.equal(after[key], value) for key, value in last_before.items())


def test_batch_norm_is_torchs_for_larger_batches() -> None:
    model = build_model(ModelConfig(name="tiny"), 10, 3, seed=0)
    plain = nn.BatchNorm2d(8)
    x = images(1)[:, :1].expand(-1, 8, -1, -1).contiguous()
    assert torch.equal(model.bn1(x), plain(x))
    assert torch.equal(model.bn1.running_var, plain.running_var)
    assert not torch.equal(model.bn1.running_var, torch.ones(8))


@pytest.mark.parametrize("norm", NORMS)
def test_residual_branches_start_silent_and_wake_up(norm: NormName) -> None:
    model = build_model(ModelConfig(name="resnet18", norm=norm), 10, 3, seed=0)
    last = model.layer1[0].bn2
    assert torch.equal(last.weight, torch.zeros(64))
    functional.cross_entropy(model(images(4)), torch.arange(4)).backward()
    assert last.weight.grad.abs().sum() > 0


def test_fixed_statistics_stay_and_can_come_from_batch_norm() -> None:
    trained = build_model(ModelConfig(name="resnet18", norm="batch"), 10, 3, seed=0)
    trained(images(4))
    fixed = build_model(ModelConfig(name="resnet18", norm="frozen"), 10, 3, seed=1)
    fixed.load_state_dict(trained.state_dict())
    before = {key: value.clone() for key, value in fixed.state_dict().items()}
    fixed(images(4))
    assert all(torch.equal(value, before[key]) for key, value in fixed.state_dict().items())
    assert isinstance(fixed.bn1, FixedNorm2d)
    assert not torch.equal(fixed.bn1.running_var, torch.ones(64))
    trained.eval()
    with torch.no_grad():
        assert torch.allclose(fixed(images(2)), trained(images(2)), atol=1e-5)


@pytest.mark.parametrize(("name", "channels"), [("tiny", 1), ("tiny", 3), ("resnet18", 1), ("resnet50", 3)])
def test_fixed_statistics_let_signals_of_deviation_1_in(name: ModelName, channels: int) -> None:
    model = build_model(ModelConfig(name=name, norm="frozen"), 10, channels, seed=2)
    smooth = functional.interpolate(images(16, channels, size=8), scale_factor=4, mode="bilinear")
    with torch.no_grad():
        assert float(model.bn1(model.conv1(smooth)).std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (64, 32), (2048, 32)])
def test_group_norm_has_groups_of_two_channels_or_more_and_at_most_32(channels: int, groups: int) -> None:
    name: ModelName = "tiny" if channels == 8 else "resnet50"
    model = build_model(ModelConfig(name=name, norm="group"), 10, 3, seed=0)
    found = {m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm) and m.num_channels == channels}
    assert found == {groups}


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_learns_with_every_norm(norm: NormName) -> None:
    model = build_model(ModelConfig(name="tiny", norm=norm), 4, 1, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    labels = torch.arange(32) % 4
    x = images(32, 1) + labels[:, None, None, None] - 1.5
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (10, 0)])
def test_impossible_models_are_refused(classes: int, channels: int) -> None:
    with pytest.raises(ValueError, match="classes and channels"):
        build_model(ModelConfig(name="tiny"), classes, channels, seed=0)
