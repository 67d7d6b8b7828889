"""The commits in a folder: which are there, whether they are whole, which are to go.

Knows names, sizes and checksums of files; does not know tensors, nor who writes commits or when.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ft_horovod.commit import manifest as manifests
from ft_horovod.commit.manifest import Manifest, ShardFile, in_words
from ft_horovod.commit.names import MANIFEST, Key, is_ours
from ft_horovod.core.errors import CommitError

_CHUNK_BYTES = 1 << 20
_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header


@dataclass(frozen=True)
class Found:
    """One commit's folder. `unfinished`: there is no manifest; with any `problem` it cannot be used."""

    path: Path
    key: Key
    manifest: Manifest | None
    problem: str | None = None
    unfinished: bool = False

    @property
    def usable(self) -> bool:
        return self.problem is None and not self.key.set_aside

    def is_of(self, identity: str) -> bool:
        """Whether this is a commit of that run."""
        return self.manifest is not None and self.manifest.identity == identity

    @property
    def age_order(self) -> tuple[int, float]:
        """Newer ones have more: a step can have several, as the last one does before and after its evaluation."""
        return self.key.step, self.manifest.written_at if self.manifest else 0.0


def look(path: Path, key: Key) -> Found:
    """What is in a commit's folder: whether all files are there with their sizes, not what is in them."""
    try:
        manifest = manifests.decode((path / MANIFEST).read_bytes(), path / MANIFEST)
    except FileNotFoundError:
        return Found(path, key, None, f"{path.name}/{MANIFEST}: missing: not finished", unfinished=True)
    except OSError as error:
        return Found(path, key, None, f"{path.name}/{MANIFEST}: cannot be read: {error.strerror}")
    except CommitError as error:
        return Found(path, key, None, str(error))
    if manifest.step != key.step:
        return Found(path, key, None, f"{path.name}/{MANIFEST}: of step {manifest.step}: the folder was renamed")
    wrong = (problem for file in manifest.files if (problem := _wrong_size(path / file.name, file)))
    return Found(path, key, manifest, next(wrong, None))


def scan(commits: Path, *, above: int = -1) -> list[Found]:
    """All commits of steps above a number, newest first. Raises OSError when the folder cannot be read."""
    keys = [(path, key) for path in _entries(commits) if (key := Key.parse(path.name)) and key.step > above]
    return sorted((look(path, key) for path, key in keys), key=lambda found: found.age_order, reverse=True)


def size_bytes(folder: Path) -> int:
    """Of all files of a commit that are there, whole or not; a run that goes on may remove some meanwhile."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += path.stat().st_size if is_ours(path.name) else 0
    return size


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def check(found: Found, names: Iterable[str] | None = None) -> None:
    """Read the files of these names, all when not given. Raises CommitError with the name of the first damaged one."""
    if found.manifest is None or found.problem:
        raise CommitError(found.problem or f"{found.path.name}: not whole")
    for file in found.manifest.files:
        if names is None or file.name in names:
            path = found.path / file.name
            try:
                sums = checksums(path)
            except OSError as error:
                raise CommitError(f"{in_words(path)}: cannot be read: {error.strerror}") from error
            if sums != (file.size_bytes, file.header_crc32, file.data_crc32):
                raise CommitError(f"{in_words(path)}: damaged: its checksum does not fit")


def checksums(path: Path) -> tuple[int, int, int]:
    """Size of a file, and the checksums of its header and of the rest. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        header_bytes, header = _header(file)
        data = 0
        while chunk := file.read(_CHUNK_BYTES):
            header_bytes += len(chunk)
            data = zlib.crc32(chunk, data)
    return header_bytes, header, data


def header_checksum(path: Path) -> int:
    """The checksum of a file's header alone. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        return _header(file)[1]


def _header(file: BinaryIO) -> tuple[int, int]:
    raw = file.read(_LENGTH_BYTES)
    left, size, found = int.from_bytes(raw, "little"), len(raw), zlib.crc32(raw)
    while left > 0 and (chunk := file.read(min(left, _CHUNK_BYTES))):
        left -= len(chunk)
        size += len(chunk)
        found = zlib.crc32(chunk, found)
    return size, found


def _wrong_size(path: Path, file: ShardFile) -> str | None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"{in_words(path)}: missing"
    except OSError as error:
        return f"{in_words(path)}: cannot be read: {error.strerror}"
    return None if size == file.size_bytes else f"{in_words(path)}: {size} bytes, expected {file.size_bytes}"


@dataclass(frozen=True)
class Retention:
    """Which commits are kept: the newest `keep` whole ones, but none that is older than `keep_s` besides the newest."""

    keep: int
    keep_s: float | None = None

    def drop(self, found: Sequence[Found], identity: str, now: float) -> list[Found]:
        """What is to go of `found`: whole commits of this identity that are too many or too old, and whatever never
        became whole, or was set aside, and is older than the newest whole one. Other runs' commits stay."""
        whole = sorted((one for one in found if one.usable and one.is_of(identity)), key=lambda one: one.age_order)
        if not whole:
            return []
        newest = whole.pop()
        recent = whole[len(whole) + 1 - self.keep :] if self.keep > 1 else []
        old = [one for one in whole if one not in recent or self._too_old(one, now)]
        useless = [one for one in found if not one.usable and (one.manifest is None or one.is_of(identity))]
        return old + [one for one in useless if one.key.step <= newest.key.step]

    def _too_old(self, one: Found, now: float) -> bool:
        return self.keep_s is not None and one.manifest is not None and now - one.manifest.written_at > self.keep_s


def remove(folder: Path) -> None:
    """Remove a commit, the manifest first, so that half a commit never counts. Files of other names stay, and the
    folder with them. Raises OSError."""
    ours = [path for path in folder.iterdir() if is_ours(path.name)]
    for path in sorted(ours, key=lambda path: path.name != MANIFEST):
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def set_aside(found: Found) -> None:
    """Rename a commit that cannot be used: an attempt at the same step finds its place free. Raises OSError."""
    target = found.path.with_name(found.key._replace(set_aside=True).name)
    if target.is_dir():
        remove(target)
    found.path.rename(target)
