"""Data sets: the real file formats, the same pixels for whoever loads them, and errors that name the file."""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from ft_horovod.core.config import DataConfig, DataName
from ft_horovod.core.errors import ConfigError, InvalidTransition
from ft_horovod.training.augment import random_box, sample_rng
from ft_horovod.training.data import Batch, Indices, Prefetcher, Source, check_data, open_data
from ft_horovod.training.formats import read_digits
from ft_horovod.training.image_folder import list_images

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ids(*numbers: int) -> Indices:
    return np.array(numbers, np.int64)


# ---- files in the real formats ----


def python2_pickle(content: dict[str, object]) -> bytes:
    """As CIFAR-10's own batches: protocol 2, numpy's old module names, integers for the flags of dtype."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=2)
    pickler.dispatch_table = copyreg.dispatch_table.copy()
    state = (3, "|", None, None, None, -1, -1, 0)
    pickler.dispatch_table[type(np.dtype(np.uint8))] = lambda dtype: (np.dtype, ("u1", 0, 1), state)
    pickler.dump(content)
    return buffer.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")


def write_cifar10(root: Path, samples: int = 6, dump: Callable[[dict[str, object]], bytes] = pickle.dumps) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = RNG.integers(0, 256, (samples, 3072), np.uint8)
        (folder / name).write_bytes(dump({"data": data, "labels": [i % 10 for i in range(samples)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    return root


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, samples: int = 20) -> Path:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(RNG.integers(0, 256, (samples, 28, 28))))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(samples) % 10))
    return root


def write_images(root: Path, held_out: str = "val") -> Path:
    for part, count in (("train", 4), (held_out, 2)):
        for name in ("zebra", "ant"):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = RNG.integers(0, 256, (40 + 10 * i, 60 - 10 * i, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{'png' if i % 2 else 'jpg'}")
    (root / "train" / "ant" / "notes.txt").write_text("not an image")
    return root


def config_of(name: DataName, folder: Path, *, augment: bool = False, size: int | None = None) -> DataConfig:
    """A configuration with data written for it."""
    root = folder / name
    writers = {"cifar10": write_cifar10, "mnist": write_mnist, "imagefolder": write_images}
    if name in writers and not root.exists():
        writers[name](root)
    return DataConfig(name=name, root=str(root) if name in writers else None, augment=augment, image_size=size)


ALL: tuple[DataName, ...] = ("digits", "cifar10", "mnist", "imagefolder", "synthetic")


# ---- shapes and values ----


@pytest.mark.parametrize(
    ("name", "samples", "channels", "classes", "size"),
    [
        ("digits", (1437, 360), 1, 10, 32),
        ("cifar10", (30, 6), 3, 10, 32),
        ("mnist", (20, 20), 1, 10, 32),
        ("imagefolder", (8, 4), 3, 2, 224),
        ("synthetic", (1024, 256), 3, 10, 32),
    ],
)
def test_shapes(
    name: DataName, samples: tuple[int, int], channels: int, classes: int, size: int, tmp_path: Path
) -> None:
    config = config_of(name, tmp_path)
    check_data(config)
    bundle = open_data(config, seed=0)
    assert (len(bundle.train), len(bundle.test)) == samples
    assert (bundle.channels, bundle.classes, bundle.image_size) == (channels, classes, size)
    for source in (bundle.train, bundle.test):
        batch = source.batch(ids(3, 0, 2), epoch=1)
        assert batch.images.shape == (3, channels, size, size)
        assert batch.images.dtype == torch.float32
        assert batch.labels.shape == (3,)
        assert batch.labels.dtype == torch.int64
        assert 0 <= int(batch.labels.min()) <= int(batch.labels.max()) < classes
        assert batch.indices.tolist() == [3, 0, 2]
        assert batch.indices.dtype == np.int64
        assert source.batch(ids(), epoch=0).images.shape == (0, channels, size, size)


@pytest.mark.parametrize("name", ALL)
def test_image_size_is_honoured(name: DataName, tmp_path: Path) -> None:
    bundle = open_data(config_of(name, tmp_path, size=16), seed=0)
    assert bundle.image_size == 16
    assert (
        bundle.train.batch(ids(0, 1), 0).images.shape[-2:] == bundle.test.batch(ids(0), 0).images.shape[-2:] == (16, 16)
    )


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_images_are_normalised(name: DataName, tmp_path: Path) -> None:
    images = open_data(config_of(name, tmp_path), seed=0).train.batch(np.arange(512), 0).images
    assert abs(float(images.mean())) < 0.1
    assert float(images.std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ALL)
def test_samples_that_do_not_exist_are_refused(name: DataName, tmp_path: Path) -> None:
    source = open_data(config_of(name, tmp_path), seed=0).train
    for index in (-1, len(source)):
        with pytest.raises(IndexError, match="samples are 0 to"):
            source.batch(ids(0, index), 0)


def test_digits_are_split_by_class_without_overlap() -> None:
    train, test = read_digits()
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    assert np.bincount(test.labels).min() >= 34
    assert np.bincount(test.labels).max() <= 38
    again = read_digits()[1]
    assert np.array_equal(again.pixels, test.pixels)
    assert np.array_equal(again.labels, test.labels)


def test_a_batch_whose_parts_differ_in_length_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="2 labels"):
        Batch(torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.int64), ids(1, 2, 3))


# ---- the same pixels, whoever loads them ----


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("name", ALL)
def test_pixels_do_not_depend_on_the_company_or_the_process(name: DataName, augment: bool, tmp_path: Path) -> None:
    config = config_of(name, tmp_path, augment=augment, size=64 if name == "imagefolder" else None)
    together = open_data(config, seed=5).train.batch(ids(4, 1, 6, 3, 0), epoch=2)
    elsewhere = open_data(config, seed=5).train
    torch.manual_seed(99)
    np.random.seed(99)
    for part in (ids(0, 6), ids(3), ids(1, 4)):
        batch = elsewhere.batch(part, epoch=2)
        for image, label, index in zip(batch.images, batch.labels, part.tolist(), strict=True):
            where = together.indices.tolist().index(index)
            assert torch.equal(image, together.images[where])
            assert label == together.labels[where]


@pytest.mark.parametrize("name", ALL)
def test_augmentation_changes_with_epoch_and_seed_and_spares_the_test_part(name: DataName, tmp_path: Path) -> None:
    config = config_of(name, tmp_path, augment=True, size=32)
    everyone = np.arange(8)
    bundle = open_data(config, seed=1)
    first, second = bundle.train.batch(everyone, 0).images, bundle.train.batch(everyone, 1).images
    assert sum(not torch.equal(a, b) for a, b in zip(first, second, strict=True)) >= 6
    assert not torch.equal(first, open_data(config, seed=2).train.batch(everyone, 0).images)
    test = bundle.test.batch(ids(0, 1), 0).images
    assert torch.equal(test, bundle.test.batch(ids(0, 1), 1).images)
    plain = open_data(config_of(name, tmp_path, size=32), seed=1)
    assert torch.equal(test, plain.test.batch(ids(0, 1), 0).images)
    assert torch.equal(plain.train.batch(everyone, 0).images, plain.train.batch(everyone, 1).images)


def test_digits_are_shifted_but_never_mirrored(tmp_path: Path) -> None:
    everyone = np.arange(40)
    plain = open_data(config_of("digits", tmp_path), seed=0).train.batch(everyone, 0).images
    moved = open_data(config_of("digits", tmp_path, augment=True), seed=0).train.batch(everyone, 0).images
    black = float(plain.min())
    padded = torch.nn.functional.pad(plain, (4, 4, 4, 4), value=black)
    for i in range(40):
        shifts = [padded[i, :, top : top + 32, left : left + 32] for top in range(9) for left in range(9)]
        assert any(torch.allclose(moved[i], shift, atol=1e-6) for shift in shifts)


def test_half_of_the_photographs_are_mirrored(tmp_path: Path) -> None:
    config = config_of("cifar10", tmp_path, augment=True)
    source = open_data(config, seed=0).train
    plain = open_data(config_of("cifar10", tmp_path), seed=0).train.batch(ids(0), 0).images[0]
    centre = plain[:, 12:20, 12:20]
    mirrored = 0
    for epoch in range(60):
        image = source.batch(ids(0), epoch).images[0]
        windows = image.unfold(1, 8, 1).unfold(2, 8, 1).permute(1, 2, 0, 3, 4).reshape(-1, 3, 8, 8)
        straight = bool((windows - centre).abs().amax((1, 2, 3)).min() < 1e-5)
        flipped = bool((windows - centre.flip(-1)).abs().amax((1, 2, 3)).min() < 1e-5)
        assert straight != flipped
        mirrored += flipped
    assert 15 <= mirrored <= 45


def test_resized_crops_stay_inside_and_keep_their_ratio() -> None:
    for index in range(300):
        left, top, right, bottom = random_box(90, 60, sample_rng(0, 0, index))
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        assert 0.7 < (right - left) / (bottom - top) < 1.4
    assert random_box(1000, 2, sample_rng(0, 0, 0)) == (498, 0, 501, 2)


def test_synthetic_classes_can_be_told_apart() -> None:
    bundle = open_data(DataConfig(name="synthetic", samples=400), seed=3)
    train, test = bundle.train.batch(np.arange(400), 0), bundle.test.batch(np.arange(100), 0)
    means = torch.stack([train.images[train.labels == c].mean(0) for c in range(10)])
    nearest = torch.cdist(test.images.flatten(1), means.flatten(1)).argmin(1)
    assert float((nearest == test.labels).float().mean()) > 0.9
    assert not torch.equal(train.images[0], test.images[0])


# ---- agreement with torchvision ----


class AnyCifar10(torchvision.datasets.CIFAR10):
    """Without the checksums of the original files."""

    def _check_integrity(self) -> bool:
        return True

    def _load_meta(self) -> None:
        pass


@pytest.mark.parametrize("dump", [pickle.dumps, python2_pickle])
def test_cifar10_as_torchvision_reads_it(dump: Callable[[dict[str, object]], bytes], tmp_path: Path) -> None:
    write_cifar10(tmp_path, dump=dump)
    bundle = open_data(DataConfig(name="cifar10", root=str(tmp_path)), seed=0)
    for source, train in ((bundle.train, True), (bundle.test, False)):
        theirs = AnyCifar10(str(tmp_path), train=train)
        assert len(source) == len(theirs)
        ours = source.batch(np.arange(len(theirs)), 0)
        assert ours.labels.tolist() == theirs.targets
        mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2470, 0.2435, 0.2616])
        expected = (torch.from_numpy(theirs.data) / 255 - mean) / std
        assert torch.allclose(ours.images, expected.permute(0, 3, 1, 2), atol=1e-6)


def test_mnist_as_torchvision_reads_it(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    bundle = open_data(DataConfig(name="mnist", root=str(tmp_path), image_size=28), seed=0)
    for source, train in ((bundle.train, True), (bundle.test, False)):
        theirs = torchvision.datasets.MNIST(str(tmp_path), train=train)
        ours = source.batch(np.arange(len(theirs)), 0)
        assert ours.labels.tolist() == theirs.targets.tolist()
        assert torch.allclose(ours.images[:, 0], (theirs.data / 255 - 0.1307) / 0.3081, atol=1e-6)


def test_image_folder_as_torchvision_reads_it(tmp_path: Path) -> None:
    write_images(tmp_path)
    (tmp_path / "train" / "ant" / "more").mkdir()
    Image.new("L", (30, 30), 77).save(tmp_path / "train" / "ant" / "more" / "grey.PNG")
    folder = list_images(tmp_path)
    theirs = torchvision.datasets.ImageFolder(str(tmp_path / "train"))
    assert list(folder.train) == theirs.samples
    assert list(folder.classes) == theirs.classes == ["ant", "zebra"]
    transform = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(37),
            torchvision.transforms.CenterCrop(32),
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    ours = open_data(DataConfig(name="imagefolder", root=str(tmp_path), image_size=32), seed=0).train
    for i, (image, label) in enumerate(theirs):
        batch = ours.batch(ids(i), 0)
        assert int(batch.labels[0]) == label
        assert torch.allclose(batch.images[0], transform(image), atol=1e-5)


# ---- errors name what is wrong ----


@pytest.mark.parametrize("name", ["cifar10", "mnist", "imagefolder"])
def test_missing_folders_are_named(name: DataName, tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        config = DataConfig(name=name, root=str(root))
        for look in (check_data, lambda c: open_data(c, seed=0)):
            with pytest.raises(ConfigError) as raised:
                look(config)
            assert str(raised.value).startswith(str(root))
            assert "\n" not in str(raised.value)


def broken(name: DataName, folder: Path, file: str, damage: Callable[[bytes], bytes]) -> DataConfig:
    config = config_of(name, folder)
    path = Path(config.root or "") / file
    path.write_bytes(damage(path.read_bytes()))
    return config


BATCH = "cifar-10-batches-py/data_batch_3"
DAMAGED: list[tuple[DataName, str, Callable[[bytes], bytes], str]] = [
    ("cifar10", BATCH, lambda raw: raw[: len(raw) // 2], "not a CIFAR-10 batch"),
    ("cifar10", BATCH, lambda raw: b"", "not a CIFAR-10 batch"),
    ("cifar10", BATCH, lambda raw: b"\x93" * 50, "not a CIFAR-10 batch"),
    ("cifar10", BATCH, lambda raw: pickle.dumps([1, 2]), "not a CIFAR-10 batch"),
    ("cifar10", BATCH, lambda raw: pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [1, 2]}), "3072"),
    ("cifar10", BATCH, lambda raw: pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}), "1 labels"),
    ("cifar10", BATCH, lambda raw: pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}), "0 to 9"),
    ("cifar10", BATCH, lambda raw: pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["x"]}), "integers"),
    ("mnist", "MNIST/raw/train-images-idx3-ubyte", lambda raw: raw[:1000], "its header promises 15680"),
    ("mnist", "MNIST/raw/train-images-idx3-ubyte", lambda raw: raw[:9], "not an IDX file"),
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", lambda raw: raw[:-1], "has 19 bytes of data"),
    ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", lambda raw: b"", "not an IDX file"),
    ("imagefolder", "train/ant/0.jpg", lambda raw: raw[: len(raw) // 2], "cannot read this image"),
    ("imagefolder", "train/ant/1.png", lambda raw: raw[: len(raw) // 2], "cannot read this image"),
    ("imagefolder", "val/zebra/1.png", lambda raw: raw[:40] + b"\xff" * 20 + raw[60:], "cannot read this image"),
    ("imagefolder", "val/zebra/0.jpg", lambda raw: b"no image at all", "cannot identify"),
    ("imagefolder", "val/zebra/0.jpg", lambda raw: b"", "cannot identify"),
]


@pytest.mark.parametrize(("name", "file", "damage", "words"), DAMAGED)
def test_damaged_files_are_named(
    name: DataName, file: str, damage: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    config = broken(name, tmp_path, file, damage)
    with pytest.raises(ConfigError) as raised:
        check_data(config)
    assert str(raised.value).startswith(str(Path(config.root or "") / file) + ": ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_image_met_while_training_is_named(tmp_path: Path) -> None:
    config = broken("imagefolder", tmp_path, "train/ant/2.jpg", lambda raw: raw[: len(raw) // 2])
    source = open_data(config, seed=0).train
    assert len(source.batch(ids(0, 1, 3), 0).images) == 3
    with pytest.raises(ConfigError, match=r"ant/2\.jpg: cannot read this image"):
        source.batch(ids(0, 1, 2, 3), 0)
    (Path(config.root or "") / "train/ant/2.jpg").unlink()
    with pytest.raises(ConfigError, match=r"ant/2\.jpg: cannot read this image: No such file"):
        source.batch(ids(2), 0)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "val" / "cat").mkdir(), "val/cat: has no images"),
        (
            lambda root: (root / "train" / "ant").rename(root / "train" / "bee"),
            "class ant is not in both train and val",
        ),
        (lambda root: (root / "val").rename(root / "validation"), "neither a folder val nor a folder test"),
        (lambda root: (root / "train").rename(root / "training"), "train: no such folder"),
    ],
)
def test_image_folders_of_the_wrong_shape(spoil: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images")
    spoil(root)
    with pytest.raises(ConfigError, match=words):
        check_data(DataConfig(name="imagefolder", root=str(root)))


def test_the_held_out_part_may_be_called_test(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", held_out="test")
    assert len(open_data(DataConfig(name="imagefolder", root=str(root)), seed=0).test) == 4


class Malice:
    """A pickle that would run a command when loaded."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._proof}",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    config = broken("cifar10", tmp_path, BATCH, lambda raw: pickle.dumps({"data": Malice(proof), "labels": []}))
    with pytest.raises(ConfigError, match="system has no place in it"):
        check_data(config)
    assert not proof.exists()


@pytest.mark.parametrize("module", ["formats", "image_folder"])
def test_the_check_does_not_import_torch(module: str) -> None:
    code = f"import sys, ft_horovod.training.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


# ---- prefetching ----


class Gated(Source):
    """Batches of nothing that wait for a gate; sample 13 is damaged."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.done = threading.Event()
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 100

    def batch(self, indices: Indices, epoch: int) -> Batch:
        assert self.gate.wait(10)
        self.loaded.append(int(indices[0]))
        self.done.set()
        if 13 in indices:
            raise ConfigError("cannot read this image", source="13.jpg")
        return Batch(torch.full((len(indices), 1, 1, 1), float(epoch)), torch.zeros(len(indices)).long(), indices)


def test_prefetched_batches_come_in_order_of_request() -> None:
    source = Gated()
    with Prefetcher(source) as prefetcher:
        prefetcher.request(ids(1, 2), 7)
        prefetcher.request(ids(5), 8)
        assert source.loaded == []
        assert len(prefetcher) == 2
        source.gate.set()
        first, second = prefetcher.get(), prefetcher.get()
    assert first.indices.tolist() == [1, 2]
    assert float(first.images[0]) == 7
    assert second.indices.tolist() == [5]
    assert float(second.images[0]) == 8


def test_a_batch_is_loaded_before_it_is_taken() -> None:
    source = Gated()
    source.gate.set()
    with Prefetcher(source) as prefetcher:
        prefetcher.request(ids(3), 0)
        assert source.done.wait(10)
        assert source.loaded == [3]
        assert len(prefetcher) == 1


def test_errors_of_the_thread_reach_the_caller_and_do_not_end_it() -> None:
    source = Gated()
    source.gate.set()
    with Prefetcher(source) as prefetcher:
        prefetcher.request(ids(13), 0)
        prefetcher.request(ids(14), 0)
        with pytest.raises(ConfigError, match=r"13\.jpg"):
            prefetcher.get()
        assert prefetcher.get().indices.tolist() == [14]


def test_requests_are_bounded_and_gets_need_one() -> None:
    source = Gated()
    with Prefetcher(source, depth=2) as prefetcher:
        with pytest.raises(InvalidTransition, match="no batch"):
            prefetcher.get()
        prefetcher.request(ids(1), 0)
        prefetcher.request(ids(2), 0)
        with pytest.raises(InvalidTransition, match="2 batches"):
            prefetcher.request(ids(3), 0)
        source.gate.set()


def test_discarded_requests_are_not_delivered() -> None:
    source = Gated()
    with Prefetcher(source) as prefetcher:
        prefetcher.request(ids(1), 0)
        prefetcher.request(ids(2), 0)
        prefetcher.discard()
        prefetcher.request(ids(3), 0)
        source.gate.set()
        assert prefetcher.get().indices.tolist() == [3]
    assert 2 not in source.loaded


def test_closing_ends_the_thread_and_refuses_more() -> None:
    source = Gated()
    source.gate.set()
    before = threading.active_count()
    prefetcher = Prefetcher(source)
    prefetcher.request(ids(1), 0)
    assert threading.active_count() == before + 1
    prefetcher.close()
    prefetcher.close()
    assert threading.active_count() == before
    with pytest.raises(InvalidTransition, match="closed"):
        prefetcher.request(ids(1), 0)


def test_a_request_is_a_snapshot_of_the_callers_array() -> None:
    source = Gated()
    indices = ids(1, 2)
    with Prefetcher(source) as prefetcher:
        prefetcher.request(indices, 0)
        indices[:] = 9
        source.gate.set()
        assert prefetcher.get().indices.tolist() == [1, 2]


def test_the_digits_are_scikit_learns() -> None:
    """Read from its file, without importing it: the same images and labels as its own loader gives, split alike."""
    bunch = load_digits()
    train, test = read_digits()
    ours = sorted(
        (image.tobytes(), int(label))
        for split in (train, test)
        for image, label in zip(split.pixels, split.labels, strict=True)
    )
    theirs = zip(bunch.images.astype(np.uint8), bunch.target, strict=True)
    assert ours == sorted((image.tobytes(), int(label)) for image, label in theirs)
    assert (len(train.labels), len(test.labels)) == (1437, 360)
