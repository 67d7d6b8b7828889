"""Folders of images: `root/train` and `root/val` (or `root/test`), in each a folder for every class.

Order and labels are those of torchvision's ImageFolder. This module knows files and Pillow. It does not import torch,
and it knows nothing of crops or batches.
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ft_horovod.core.errors import ConfigError

CHECK_FILES = 1000  # images that `check_images` decodes, spread evenly over all
CHECK_THREADS = 4
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's

# What Pillow is known to raise for damaged files of one format or another.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder of images: the classes' names in the order of their labels, and each part as (path, label)."""

    classes: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]


def list_images(root: Path) -> ImageFolder:
    """List `root/train` and `root/val` (or `root/test`), each with a folder of images for each class.

    Raises ConfigError when one is missing or empty, or the classes of the two differ.
    """
    try:
        held_out = root / "val" if (root / "val").is_dir() else root / "test"
        classes, train = _list_split(root / "train")
        if not held_out.is_dir():
            raise ConfigError("has neither a folder val nor a folder test", source=str(root))
        test_classes, test = _list_split(held_out)
    except OSError as error:
        raise ConfigError(f"cannot list this folder: {error.strerror}", source=str(error.filename)) from error
    if odd := sorted(set(classes) ^ set(test_classes)):
        raise ConfigError(f"class {odd[0]} is not in both train and {held_out.name}", source=str(root))
    return ImageFolder(classes, train, test)


def check_images(folder: ImageFolder) -> None:
    """Decode up to 1,000 images, spread evenly over the folder. Raises ConfigError naming the first damaged one."""
    files = [path for path, _ in folder.train + folder.test]
    count = min(len(files), CHECK_FILES)
    with ThreadPoolExecutor(CHECK_THREADS) as pool:
        for _ in pool.map(_check_image, [files[i * len(files) // count] for i in range(count)]):
            pass


def open_image(path: str) -> Image.Image:
    """Decode an image file to RGB. Raises ConfigError naming it."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _check_image(path: str) -> None:
    try:
        with Image.open(path) as image:
            image.draft(None, (1, 1))  # JPEG: read all of the file, but compute an eighth of each side
            image.load()
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ConfigError:
    problem = (error.strerror if isinstance(error, OSError) else None) or str(error).replace(f" {path!r}", "")
    return ConfigError(f"cannot read this image: {' '.join(problem.split())}", source=path)


def _list_split(folder: Path) -> tuple[tuple[str, ...], tuple[tuple[str, int], ...]]:
    """Classes in alphabetical order and their files in a fixed order, as torchvision's ImageFolder has them."""
    if not folder.is_dir():
        raise ConfigError("no such folder", source=str(folder))
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise ConfigError("has no class folders", source=str(folder))
    files: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        before = len(files)
        for parent, _, names in sorted(os.walk(folder / name, followlinks=True)):
            found = sorted(n for n in names if n.lower().endswith(IMAGE_SUFFIXES))
            files.extend((f"{parent}{os.sep}{n}", label) for n in found)
        if len(files) == before:
            raise ConfigError("has no images", source=str(folder / name))
    return classes, tuple(files)
