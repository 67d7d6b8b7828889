"""Random crops and flips that depend on seed, data epoch and sample alone.

Whoever loads a sample, in whichever batch, gets the same pixels: work done again after a failure is the same work. This
module knows draws and pixels, not files or their formats.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

PADDING = 4  # pixels around an image, for crops of its own size (He et al. 2016, section 4.2)
AREA = (0.08, 1.0)  # part of an image that a resized crop covers (Szegedy et al. 2015)
RATIO = (3 / 4, 4 / 3)  # its width over its height, before resizing
_TRIES = 10

Box = tuple[int, int, int, int]


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The source of all draws for one sample in one data epoch."""
    return np.random.default_rng((seed, epoch, index))


def crop_and_flip(images: Tensor, seed: int, epoch: int, indices: npt.NDArray[np.int64], *, flip: bool) -> Tensor:
    """Shift each of `[n, channels, h, w]` by up to 4 pixels, zeros coming in, and mirror half of them if `flip`."""
    height, width = images.shape[-2:]
    padded = functional.pad(images, (PADDING,) * 4)
    result = torch.empty_like(images)
    for i, index in enumerate(indices.tolist()):
        rng = sample_rng(seed, epoch, index)
        top, left, mirror = (int(n) for n in rng.integers(0, (2 * PADDING + 1, 2 * PADDING + 1, 2)))
        crop = padded[i, :, top : top + height, left : left + width]
        result[i] = crop.flip(-1) if flip and mirror else crop
    return result


def random_box(width: int, height: int, rng: np.random.Generator) -> Box:
    """A random part of an image, as torchvision's RandomResizedCrop draws it: (left, top, right, bottom) in pixels."""
    for _ in range(_TRIES):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    # A very long image: the largest part in its middle whose ratio is allowed.
    w, h = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return central_box(width, height, max(w, 1), max(h, 1))


def central_box(width: int, height: int, crop_width: int, crop_height: int) -> Box:
    """The part of that size in its middle, rounded as by torchvision: (left, top, right, bottom) in pixels."""
    left, top = round((width - crop_width) / 2), round((height - crop_height) / 2)
    return left, top, left + crop_width, top + crop_height
