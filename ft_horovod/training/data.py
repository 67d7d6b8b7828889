"""Data sets by name: what a configuration's data section means.

This module puts sources together. Reading files is `formats` and `image_folder`, pixels are `sources` and `augment`.
`check_data` lives in `formats`, where it can be had without importing torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from ft_horovod.core.config import DataConfig
from ft_horovod.training.formats import TEN, Split, check_data, read_cifar10, read_digits, read_mnist, root_of
from ft_horovod.training.image_folder import list_images
from ft_horovod.training.prefetch import Prefetcher
from ft_horovod.training.sources import (
    LOADER_THREADS,
    SYNTHETIC_CHANNELS,
    SYNTHETIC_CLASSES,
    Batch,
    FolderSource,
    Indices,
    Look,
    MemorySource,
    Source,
    SyntheticSource,
)

__all__ = ["Batch", "DataBundle", "Indices", "Prefetcher", "Source", "check_data", "open_data"]

IMAGE_SIZE = 32  # pixels, when the configuration has none
FOLDER_IMAGE_SIZE = 224
SYNTHETIC_SAMPLES = 1024
SYNTHETIC_TEST_PART = 4  # a quarter as many samples for testing

# Mean and deviation of the training images' values, 0 to 1, channel by channel.
_DIGITS = ((0.3053,), (0.3760,))
_MNIST = ((0.1307,), (0.3081,))
_CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SYNTHETIC = ((0.0,) * SYNTHETIC_CHANNELS, (2.0**0.5,) * SYNTHETIC_CHANNELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataBundle:
    """The two parts of a data set. Labels are 0 to `classes` - 1, images `[channels, image_size, image_size]`."""

    train: Source
    test: Source
    classes: int
    channels: int
    image_size: int


def open_data(config: DataConfig, seed: int, threads: int = LOADER_THREADS) -> DataBundle:
    """Open the data set that `config` names; `seed` decides augmentation, and the samples of synthetic data.

    `threads` decode images of a folder. Training images are augmented if `config.augment`: cropped with 4 pixels of
    padding and, unless they are digits, mirrored; those of a folder are cropped and resized at random, and mirrored.
    Raises ConfigError naming the file or folder that is missing or damaged.
    """
    match config.name:
        case "digits":
            return _in_memory(config, seed, read_digits(), _DIGITS, peak=16)
        case "mnist":
            return _in_memory(config, seed, read_mnist(root_of(config)), _MNIST)
        case "cifar10":
            return _in_memory(config, seed, read_cifar10(root_of(config)), _CIFAR10, flip=True)
        case "imagefolder":
            return _folder(config, seed, threads)
        case "synthetic":
            return _synthetic(config, seed)


def _in_memory(
    config: DataConfig,
    seed: int,
    splits: tuple[Split, Split],
    moments: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    peak: int = 255,
    flip: bool = False,
) -> DataBundle:
    train, test = splits
    size = config.image_size or IMAGE_SIZE
    mean, std = moments
    plain = Look(size=size, mean=mean, std=std)
    look = Look(size=size, mean=mean, std=std, augment=config.augment, flip=flip, seed=seed)
    return DataBundle(
        train=MemorySource(train, look, peak),
        test=MemorySource(test, plain, peak),
        classes=TEN,
        channels=train.pixels.shape[1],
        image_size=size,
    )


def _folder(config: DataConfig, seed: int, threads: int) -> DataBundle:
    folder = list_images(root_of(config))
    size = config.image_size or FOLDER_IMAGE_SIZE
    mean, std = _IMAGENET
    look = Look(size=size, mean=mean, std=std, augment=config.augment, flip=True, seed=seed)
    return DataBundle(
        train=FolderSource(folder.train, look, threads),
        test=FolderSource(folder.test, Look(size=size, mean=mean, std=std), threads),
        classes=len(folder.classes),
        channels=len(mean),
        image_size=size,
    )


def _synthetic(config: DataConfig, seed: int) -> DataBundle:
    size, samples = config.image_size or IMAGE_SIZE, config.samples or SYNTHETIC_SAMPLES
    mean, std = _SYNTHETIC
    look = Look(size=size, mean=mean, std=std, augment=config.augment, flip=True, seed=seed)
    return DataBundle(
        train=SyntheticSource(samples, 0, look),
        test=SyntheticSource(max(samples // SYNTHETIC_TEST_PART, 1), 1, Look(size=size, mean=mean, std=std, seed=seed)),
        classes=SYNTHETIC_CLASSES,
        channels=SYNTHETIC_CHANNELS,
        image_size=size,
    )
