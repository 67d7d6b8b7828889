"""Where batches come from: arrays in memory, folders of images, or nothing but a seed.

A sample's pixels depend on the source, the data epoch and the sample's index, never on who loads it or with which
others. This module knows pixels and threads, not configurations, workers or steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ft_horovod.training.augment import central_box, crop_and_flip, random_box, sample_rng
from ft_horovod.training.formats import Split
from ft_horovod.training.image_folder import open_image

Indices = npt.NDArray[np.int64]

LOADER_THREADS = 4  # that decode images; decoding and resizing release Python's lock
EVAL_RESIZE = 256 / 224  # shorter side over crop, when images are not augmented
SYNTHETIC_CLASSES = 10
SYNTHETIC_CHANNELS = 3
_PATTERN = 4  # a synthetic class is a random pattern of 4 x 4 patches


@dataclass(frozen=True, slots=True)
class Batch:
    """Normalised images float32 `[n, channels, h, w]`, labels int64 `[n]`, and the indices really loaded int64 `[n]`.

    Raises ValueError when the three differ in length.
    """

    images: Tensor
    labels: Tensor
    indices: Indices

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.labels) == len(self.indices):
            raise ValueError(f"{len(self.images)} images, {len(self.labels)} labels, {len(self.indices)} indices")


class Source(Protocol):
    """Samples by index. `batch` may be called from another thread, one call at a time."""

    def __len__(self) -> int: ...

    def batch(self, indices: Indices, epoch: int) -> Batch:
        """Load these samples, in this order, as they look in data epoch `epoch`.

        Raises IndexError for a sample that does not exist and ConfigError, naming the file, for one that is damaged.
        """
        ...

    def labels(self, indices: Indices) -> Tensor:
        """The labels alone, int64 `[len(indices)]`, in this order. Raises IndexError as `batch` does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How images are brought into shape: size in pixels, mean and deviation (of values 0 to 1), augmentation."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: bool = False
    flip: bool = False  # with `augment`: mirror half of the images; a mirrored digit would be none
    seed: int = 0

    def normalise(self, images: Tensor) -> Tensor:
        """Bring `[n, channels, h, w]` to mean 0 and deviation 1, channel by channel."""
        shape = (1, -1, 1, 1)
        return (images - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)


class MemorySource:
    """Images kept in memory as bytes of 0 to `peak`, resized (bilinear) batch by batch."""

    def __init__(self, split: Split, look: Look, peak: int) -> None:
        self._pixels, self._labels = torch.from_numpy(split.pixels), torch.from_numpy(split.labels)
        self._look, self._peak = look, peak

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, indices: Indices, epoch: int) -> Batch:
        """See `Source`."""
        look, chosen = self._look, torch.from_numpy(_checked(indices, len(self)))
        images = self._pixels[chosen].to(torch.float32) / self._peak
        side = max(images.shape[-2:])
        if images.shape[-2:] != (look.size, look.size):
            images = functional.interpolate(
                images, (look.size, look.size), mode="bilinear", align_corners=False, antialias=look.size < side
            )
        if look.augment:
            images = crop_and_flip(images, look.seed, epoch, indices, flip=look.flip)
        return Batch(look.normalise(images), self._labels[chosen], indices.copy())

    def labels(self, indices: Indices) -> Tensor:
        """See `Source`."""
        return self._labels[torch.from_numpy(_checked(indices, len(self)))]


class FolderSource:
    """Image files, decoded when asked for by a small pool of threads.

    Threads and not processes: a process that uses MPI must not fork.
    """

    def __init__(self, files: Sequence[tuple[str, int]], look: Look, threads: int = LOADER_THREADS) -> None:
        self._files, self._look = files, look
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def __len__(self) -> int:
        return len(self._files)

    def batch(self, indices: Indices, epoch: int) -> Batch:
        """See `Source`."""
        files = [self._files[i] for i in _checked(indices, len(self)).tolist()]
        size = self._look.size
        images = torch.empty((len(files), 3, size, size))
        for i, image in enumerate(self._pool.map(lambda i: self._load(i, epoch), indices.tolist())):
            images[i] = image
        return Batch(self._look.normalise(images), self.labels(indices), indices.copy())

    def labels(self, indices: Indices) -> Tensor:
        """See `Source`."""
        return torch.tensor([self._files[i][1] for i in _checked(indices, len(self)).tolist()], dtype=torch.int64)

    def _load(self, index: int, epoch: int) -> Tensor:
        """One image float32 `[3, size, size]` of values 0 to 1, cropped as training or evaluation asks."""
        image, size = open_image(self._files[index][0]), self._look.size
        if self._look.augment:
            rng = sample_rng(self._look.seed, epoch, index)
            image = image.resize((size, size), Image.Resampling.BILINEAR, box=random_box(*image.size, rng))
            if self._look.flip and rng.random() < 1 / 2:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            short = round(size * EVAL_RESIZE)
            width, height = (short * side // min(image.size) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR).crop(
                central_box(width, height, size, size)
            )
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32) / 255


class SyntheticSource:
    """Made-up samples that can be learnt: a pattern for each class, drowned in Gaussian noise of deviation 1.

    A sample is computed from seed, part and index whenever it is asked for; index modulo 10 is its class.
    """

    def __init__(self, samples: int, part: int, look: Look) -> None:
        self._samples, self._part, self._look = samples, part, look
        shape = (SYNTHETIC_CLASSES, SYNTHETIC_CHANNELS, _PATTERN, _PATTERN)
        patterns = np.random.default_rng((look.seed, 0)).standard_normal(shape, np.float32)
        self._means = functional.interpolate(torch.from_numpy(patterns), (look.size, look.size))

    def __len__(self) -> int:
        return self._samples

    def batch(self, indices: Indices, epoch: int) -> Batch:
        """See `Source`."""
        labels = self.labels(indices)
        images = self._means[labels]
        for i, index in enumerate(indices.tolist()):
            rng = np.random.default_rng((self._look.seed, 1, self._part, index))
            images[i] += torch.from_numpy(rng.standard_normal(tuple(images[i].shape), np.float32))
        if self._look.augment:
            images = crop_and_flip(images, self._look.seed, epoch, indices, flip=self._look.flip)
        return Batch(self._look.normalise(images), labels, indices.copy())

    def labels(self, indices: Indices) -> Tensor:
        """See `Source`."""
        return torch.from_numpy(_checked(indices, len(self)) % SYNTHETIC_CLASSES)


def _checked(indices: Indices, samples: int) -> Indices:
    """The indices themselves; numpy and torch would let negative ones wrap around."""
    if len(indices) and not 0 <= indices.min() <= indices.max() < samples:
        raise IndexError(f"samples are 0 to {samples - 1}, asked for {indices.min()} to {indices.max()}")
    return indices
