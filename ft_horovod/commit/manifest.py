"""The manifest of a commit: what it is a state of, and which files it consists of.

Knows what stands in it and how a change to it is noticed; not how files are written. Nothing random needs to be kept
besides the seed: initial weights depend on it alone, the order of samples on seed and epoch, augmentation on seed,
epoch and sample index, synthetic samples on seed and index; and models draw nothing while they train.

Checksums are CRC-32. They are there to notice damage (a flipped byte for certain, anything else but for one in four
billion), not forgery: whoever could forge a shard could forge its hash as well. 51 MB take 9 ms of a core; SHA-256,
with the processor's instructions for it, 29 ms, BLAKE2b 43 ms. That time is taken from training in every commit.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from ft_horovod.commit.names import Key, Shard, choose
from ft_horovod.core.errors import CommitError

FORMAT = "ft-horovod commit 1"

_SEAL = b'"checksum": "'
_END = b'"\n}\n'
_SEAL_LENGTH = 8


class Stamp(NamedTuple):
    """What a state is the state of; the same for all who write a part of it."""

    step: int
    progress: bytes  # JSON; whoever asks for the commit can read it
    identity: str  # what the state depends on besides its step
    seed: int

    @property
    def key(self) -> Key:
        return Key(self.step, f"{zlib.crc32(self.progress, zlib.crc32(self.identity.encode())):08x}")


class ShardFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file. The header is its first 8 bytes and as many more as they say, data is the rest."""

    name: str
    size_bytes: int
    header_crc32: int
    data_crc32: int
    tensors: tuple[str, ...]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes files a commit. `files` are those of stage 0 first; `written_at` is Unix time."""

    format: str
    step: int
    identity: str
    seed: int
    progress: msgspec.Raw
    written_at: float
    shards: tuple[int, ...]  # of each stage
    files: tuple[ShardFile, ...]
    checksum: str = ""  # of all that stands before it

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format!r}, expected {FORMAT!r}")
        names = [file.name for file in self.files]
        for name in names:
            if Shard.parse(name) is None:
                raise ValueError(f"{name!r} is no shard's name")
        fits = self.shards and min(self.shards) >= 1 and sum(self.shards) == len(names)
        if not fits or names != [shard.name for shard in choose(names, self.shards)[0]]:
            raise ValueError(f"the files are not those of {list(self.shards)} shards")

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)


def encode(manifest: Manifest) -> bytes:
    """As JSON, whose last value is a checksum of all bytes before it."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    head = text[: text.rindex(_SEAL) + len(_SEAL)]
    return head + _seal(head) + _END


def decode(raw: bytes, source: Path) -> Manifest:
    """Read what `encode` wrote. Raises CommitError when a byte of it is another."""
    head = raw[: -len(_END) - _SEAL_LENGTH]
    if raw != head + _seal(head) + _END or not head.endswith(_SEAL):
        raise CommitError(f"{in_words(source)}: damaged: its checksum does not fit")
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise CommitError(f"{in_words(source)}: cannot be read: {error}") from error


def in_words(path: Path) -> str:
    """A file of a commit, as messages name it: with its commit's folder."""
    return f"{path.parent.name}/{path.name}"


def _seal(head: bytes) -> bytes:
    return b"%0*x" % (_SEAL_LENGTH, zlib.crc32(head))
