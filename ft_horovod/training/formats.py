"""Data sets that fit into memory, read from their files, and the check of all data before a run starts.

Digits, CIFAR-10's pickles and MNIST's IDX files, laid out as torchvision expects them; whatever is wrong with a file is
a ConfigError that names it. This module knows files and arrays. It does not import torch, so that a launcher can check
data in no time, and it knows nothing of augmentation or batches.
"""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from ft_horovod.core.config import DataConfig
from ft_horovod.core.errors import ConfigError
from ft_horovod.training.image_folder import check_images, list_images

DIGITS_TEST_PART = 5  # every fifth digit is for testing
TEN = 10  # classes of digits, MNIST and CIFAR-10

# What a damaged pickle can make the unpickler raise.
_UNPICKLABLE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    OverflowError,
    MemoryError,
)


@dataclass(frozen=True, slots=True)
class Split:
    """One part of an in-memory data set: pixels uint8 `[n, channels, h, w]`, labels int64 `[n]`."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]


def check_data(config: DataConfig) -> None:
    """Find out before a run starts whether its data can be read.

    CIFAR-10 and MNIST are read in full; of a folder of images all names, and up to 1,000 images. A damaged image beyond
    them is met while training. Raises ConfigError with the file or folder at fault.
    """
    match config.name:
        case "cifar10":
            read_cifar10(root_of(config))
        case "mnist":
            read_mnist(root_of(config))
        case "imagefolder":
            check_images(list_images(root_of(config)))


def root_of(config: DataConfig) -> Path:
    """The folder of the data's files. Raises ConfigError when it is not there."""
    if config.root is None:
        raise ConfigError(f"data.name {config.name} needs the folder of its files", key="data.root")
    root = Path(config.root).expanduser()
    if not root.is_dir():
        raise ConfigError("no such folder", source=str(root), key="data.root")
    return root


def _digits_file() -> Path:
    """The table that scikit-learn carries. Importing it would take each worker most of a second."""
    found = importlib.util.find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise ConfigError("the digits come with scikit-learn: pip install scikit-learn", key="data.name")
    return Path(folders[0]) / "datasets" / "data" / "digits.csv.gz"


def read_digits() -> tuple[Split, Split]:
    """scikit-learn's handwritten digits, 8 x 8 with values 0 to 16: 1,437 to train and 360 to test, always the same.

    Each class is split alike: shuffled with a fixed seed, sorted by class, every fifth digit is for testing.
    """
    table = np.loadtxt(_digits_file(), dtype=np.int64, delimiter=",")  # 64 pixels and the label
    pixels, labels = table[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), table[:, -1]
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    is_test = np.zeros(len(labels), bool)
    is_test[order[::DIGITS_TEST_PART]] = True
    return Split(pixels[~is_test], labels[~is_test]), Split(pixels[is_test], labels[is_test])


def read_cifar10(root: Path) -> tuple[Split, Split]:
    """CIFAR-10 in its Python version, under `root/cifar-10-batches-py`; pixels `[n, 3, 32, 32]`. Raises ConfigError."""
    folder = root / "cifar-10-batches-py"
    parts = [_read_cifar_batch(folder / f"data_batch_{i}") for i in range(1, 6)]
    train = Split(np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts]))
    return train, _read_cifar_batch(folder / "test_batch")


def read_mnist(root: Path) -> tuple[Split, Split]:
    """MNIST's four unpacked IDX files, under `root/MNIST/raw`; pixels `[n, 1, 28, 28]`. Raises ConfigError."""
    folder, splits = root / "MNIST" / "raw", []
    for part in ("train", "t10k"):
        file = folder / f"{part}-images-idx3-ubyte"
        pixels = _read_idx(file, 3)
        labels = _read_idx(folder / f"{part}-labels-idx1-ubyte", 1)
        splits.append(_split(pixels[:, None], labels, file))
    if splits[0].pixels.shape[1:] != splits[1].pixels.shape[1:]:
        raise ConfigError("images to train and to test differ in size", source=str(folder))
    return splits[0], splits[1]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read this file: {error.strerror}", source=str(path)) from error


def _read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    raw, start = _read_bytes(path), 4 * (dimensions + 1)
    if len(raw) < start or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise ConfigError(f"not an IDX file of bytes in {dimensions} dimension(s)", source=str(path))
    shape = [int(n) for n in np.frombuffer(raw, ">u4", dimensions, 4)]
    if len(raw) - start != math.prod(shape):
        raise ConfigError(
            f"has {len(raw) - start} bytes of data, its header promises {math.prod(shape)}", source=str(path)
        )
    return np.frombuffer(bytearray(raw), np.uint8, offset=start).reshape(shape)  # torch wants it writable


def _read_cifar_batch(path: Path) -> Split:
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="latin1").load()
    except _UNPICKLABLE as error:
        raise ConfigError(f"not a CIFAR-10 batch: {error}", source=str(path)) from error
    except OSError as error:
        raise ConfigError(f"cannot read this file: {error.strerror}", source=str(path)) from error
    data, labels = (content.get("data"), content.get("labels")) if isinstance(content, dict) else (None, None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
        raise ConfigError("not a CIFAR-10 batch: data is not bytes [n, 3072]", source=str(path))
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ConfigError("not a CIFAR-10 batch: labels is not a list of integers", source=str(path))
    return _split(data.reshape(-1, 3, 32, 32), np.array(labels, np.int64), path)


def _split(pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer], path: Path) -> Split:
    if len(pixels) != len(labels) or len(labels) == 0:
        raise ConfigError(f"{len(pixels)} images but {len(labels)} labels", source=str(path))
    if labels.min() < 0 or labels.max() >= TEN:
        raise ConfigError(f"labels are not all 0 to {TEN - 1}", source=str(path))
    return Split(pixels, labels.astype(np.int64))


class _ArrayUnpickler(pickle.Unpickler):
    """Reads plain values and numpy arrays, and refuses everything else: a pickle from elsewhere may run any code."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return _PICKLED[module.replace("numpy._core", "numpy.core"), name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in it") from None


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")


def _maker(array: npt.NDArray[np.float64], protocol: int) -> Callable[..., object]:
    """The function of numpy's that a pickle calls to make an array: it has no public name."""
    return cast(Callable[..., object], array.__reduce_ex__(protocol)[0])


_PICKLED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _maker(np.empty(1), 2),
    ("numpy.core.numeric", "_frombuffer"): _maker(np.empty(1), 5),
    ("_codecs", "encode"): _latin1,
}
