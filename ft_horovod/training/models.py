"""Networks by name: torchvision's ResNets, and a tiny one of the same shape for tests.

Every network has the children conv1, bn1, relu, maxpool, layer1 to layer4, avgpool, fc, in this order, so that one rule
cuts any of them into stages. This module knows layers and their initial values, not data, devices or workers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ft_horovod.core.config import ModelConfig, NormName
from ft_horovod.training.vision import BasicBlock, Bottleneck, FrozenBatchNorm2d, ResNet

NormLayer = Callable[[int], nn.Module]

MAX_GROUPS = 32  # Wu & He, Group Normalization, 2018
NOISE_IMAGES = 32  # on which the first fixed statistics are measured
RGB = 3
BATCH_NORM_MOMENTUM = 0.1  # weight of the newest batch in the running statistics

_BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet34": (BasicBlock, [3, 4, 6, 3]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
    "resnet101": (Bottleneck, [3, 4, 23, 3]),
}
_TINY_WIDTHS = (8, 8, 16, 32, 64)  # of the stem and the four layers


class LocalBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that survives a batch of one value per channel by using its running statistics.

    After a loss a share of the batch may be a single sample, and ResNet's last maps are 1 x 1 for 32 x 32 images. Such
    a batch has no variance, and torch would raise ValueError.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[batch, channels, h, w]`, over batch and map when training."""
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(x)


class FixedNorm2d(FrozenBatchNorm2d):
    """Batch normalisation whose statistics never change, with trainable scale and shift.

    They are mean 0 and variance 1 (`build_model` measures those of the first layer on noise) until a state dict brings
    others; one of BatchNorm2d fits. Training from scratch does not explode because residual branches start at 0 (De &
    Smith, Batch Normalization Biases Residual Blocks Towards the Identity Function, 2020), but it is slow.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        del self.weight, self.bias  # buffers there: a scale of 0 would stay 0
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift each channel of `[batch, channels, h, w]`."""
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


class TinyBlock(nn.Module):
    """3 x 3 convolution, norm and a shortcut; halves the map when `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: NormLayer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn2 = norm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, inputs, h, w]` to `[batch, outputs, h / stride, w / stride]`."""
        return functional.relu(self.bn2(self.conv(x)) + self.shortcut(x))


class TinyNet(nn.Module):
    """A network of about 28,000 parameters with the children of a ResNet, for tests and smoke runs."""

    def __init__(self, classes: int, channels: int, norm: NormLayer) -> None:
        super().__init__()
        stem, *layers = _TINY_WIDTHS
        self.conv1 = nn.Conv2d(channels, stem, 3, 2, padding=1, bias=False)
        self.bn1 = norm(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(2)
        self.layer1 = TinyBlock(stem, layers[0], 1, norm)
        self.layer2 = TinyBlock(layers[0], layers[1], 2, norm)
        self.layer3 = TinyBlock(layers[1], layers[2], 2, norm)
        self.layer4 = TinyBlock(layers[2], layers[3], 1, norm)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(layers[3], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, TinyBlock) and isinstance(module.bn2, FixedNorm2d):
                nn.init.zeros_(module.bn2.weight)  # nothing else keeps it from exploding; with the others it is slower

    def forward(self, x: Tensor) -> Tensor:
        """`[batch, channels, h, w]` to logits `[batch, classes]`."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def build_model(config: ModelConfig, classes: int, channels: int, seed: int) -> nn.Module:
    """The network `config` names, on the CPU, in training mode: images `[batch, channels, h, w]` to `[batch, classes]`.

    Parameters depend on the arguments alone (bit for bit, given the same torch and kind of CPU), and the global random
    state is left as it was. The last scale of a ResNet's residual branches starts at 0 (Goyal et al. 2017). With other
    than 3 channels the first convolution is one for as many: its He initialisation counts outputs, so it stays right.

    Raises ValueError when `classes` or `channels` is not positive.
    """
    if classes < 1 or channels < 1:
        raise ValueError(f"a model needs classes and channels, got {classes} and {channels}")
    norm = _norm_layer(config.norm)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would touch the GPUs'
        if config.name == "tiny":
            model: TinyNet | ResNet = TinyNet(classes, channels, norm)
        else:
            model = _resnet(config.name, classes, channels, norm)
        if isinstance(model.bn1, FixedNorm2d):
            _measure_stem(model.conv1, model.bn1)
        return model


def _resnet(name: str, classes: int, channels: int, norm: NormLayer) -> ResNet:
    block, layers = _BLOCKS[name]
    model = ResNet(block, layers, num_classes=classes, zero_init_residual=True, norm_layer=norm)
    if channels != RGB:
        model.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    return model


def _measure_stem(conv: nn.Conv2d, norm: FixedNorm2d) -> None:
    """Set the first norm's statistics to those of smooth noise, so that signals enter with deviation 1.

    Behind it, He's initialisation keeps them about there. Measured in float64 and rounded to 11 bits, so that the order
    of summation, and with it the machine, makes no difference.
    """
    noise = torch.randn(NOISE_IMAGES, conv.in_channels, 8, 8, dtype=torch.float64)
    smooth = functional.interpolate(noise, scale_factor=4, mode="bilinear", align_corners=False)
    with torch.no_grad():
        maps = functional.conv2d(smooth, conv.weight.double(), stride=conv.stride, padding=conv.padding)
        variance, mean = torch.var_mean(maps, dim=(0, 2, 3))
    norm.running_mean.copy_(_rounded(mean))
    norm.running_var.copy_(_rounded(variance))


def _rounded(values: Tensor) -> Tensor:
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent)


def _norm_layer(name: NormName) -> NormLayer:
    match name:
        case "batch":
            return partial(LocalBatchNorm2d, momentum=BATCH_NORM_MOMENTUM)
        case "group":
            return _group_norm
        case "frozen":
            return FixedNorm2d


def _group_norm(channels: int) -> nn.GroupNorm:
    """As many groups of two channels or more as divide `channels`, but at most 32: the samples do not see each other.

    A group of one channel could not be normalised where the map is 1 x 1.
    """
    most = min(MAX_GROUPS, channels // 2)
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if channels % n == 0), channels)
