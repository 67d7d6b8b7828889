"""Shards: which tensors of a stage's state each member writes, and how they come into a file and out of it.

Files are safetensors, under the model's own names with momentum as `momentum.<name>`: any tool that knows the format
can use them, and loading one from elsewhere runs nothing. Knows one file at a time; what a commit is, `disk` knows.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ft_horovod.commit.folder import header_checksum
from ft_horovod.commit.manifest import ShardFile, in_words
from ft_horovod.core.errors import CommitError

Tensors = Mapping[str, torch.Tensor]
Hook = Callable[[str], None]


class Run(NamedTuple):
    """A contiguous run of a flat state: elements from `start` to `stop`, as the tensors of these names and shapes."""

    start: int
    stop: int
    shapes: tuple[tuple[str, torch.Size], ...]

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """`flat`, which holds this run alone, by name."""
        parts = flat.split([shape.numel() for _, shape in self.shapes])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes, parts, strict=True)}


def split(sizes: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Cut a row of sizes into at most `parts` runs, half-open, so that the largest is as small as can be.

    No run is empty: with fewer sizes than parts there are as many runs as sizes. Raises ValueError without parts.
    """
    if parts < 1:
        raise ValueError(f"a state cannot be cut into {parts} parts")
    parts = min(parts, len(sizes))
    low, high = max([*sizes, -(-sum(sizes) // max(parts, 1))], default=0), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_fill(sizes, middle, 0)) <= parts:
            high = middle
        else:
            low = middle + 1
    return _fill(sizes, low, parts)


def _fill(sizes: Sequence[int], limit: int, least: int) -> list[tuple[int, int]]:
    """Runs of at most `limit`, as few as can be, but at least `least` of them."""
    runs: list[tuple[int, int]] = []
    first = total = 0
    for index, size in enumerate(sizes):
        more_are_needed = len(runs) + 1 + len(sizes) - index <= least
        if index > first and (total + size > limit or more_are_needed):
            runs.append((first, index))
            first, total = index, 0
        total += size
    return [*runs, (first, len(sizes))] if sizes else []


def runs(named: Tensors, members: int) -> list[Run]:
    """The part of each member, the first one's first; fewer than members when there are fewer tensors.

    `named` are all the views of a flat state, in its order.
    """
    shapes = [(name, view.shape) for name, view in named.items()]
    sizes = [shape.numel() for _, shape in shapes]
    offsets = [0, *accumulate(sizes)]
    return [Run(offsets[a], offsets[b], tuple(shapes[a:b])) for a, b in split(sizes, members)]


@contextlib.contextmanager
def safely(target: Path, hook: Hook) -> Iterator[Path]:
    """A path to write to; what is written there becomes `target` all at once, when it is on the disk.

    `hook` is called with the target's name in the moment before.
    """
    aside = target.with_name(f"{target.name}.{os.getpid()}.writing")
    try:
        yield aside
        fsync(aside)
        hook(target.name)
        aside.replace(target)
        fsync(target.parent)
    finally:
        with contextlib.suppress(OSError):  # a problem of before is not to be hidden by this one
            aside.unlink(missing_ok=True)


def write(target: Path, tensors: Tensors, notes: Mapping[str, str], hook: Hook) -> None:
    """Write a file of tensors, and `notes` into its header, next to the checksum of the data. Raises OSError."""
    data = 0
    for name in sorted(tensors):  # the order in which safetensors writes tensors of one type
        data = zlib.crc32(tensors[name].view(-1).numpy().view("u1").data, data)
    with safely(target, hook) as aside:
        try:
            save_file(dict(tensors), aside, {**notes, "crc32": f"{data:08x}"})
        except SafetensorError as error:  # it wraps what the system says about writing
            raise OSError(str(error)) from error


def describe(path: Path) -> tuple[ShardFile, dict[str, str]]:
    """What stands in a file's header, for the manifest, and the notes. Raises CommitError."""
    try:
        with safe_open(path, "np") as file:
            notes = dict(file.metadata() or {})
            names = tuple(sorted(file.keys()))
        crc32 = int(notes["crc32"], 16)
        return ShardFile(path.name, path.stat().st_size, header_checksum(path), crc32, names), notes
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CommitError(f"{in_words(path)}: cannot be read: {error}") from error


def read(path: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Copies of the tensors of these names. Raises CommitError."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise CommitError(f"{in_words(path)}: cannot be read: {error}") from error


def fsync(path: Path) -> None:
    """Until a file's contents, or a folder's names, are on the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
