"""The files of host memory: their names, their layout, what is found in them.

A file holds two slices of one worker, each behind a header of its own, in memory that outlives the process:

    magic, size of a payload | state, header | state, header | payload | payload

A slice counts while its state word says WHOLE and its header fits its own checksum. The file is trusted only if it is
a regular file of this user with one name, no access for others, and the size its first bytes promise. This module
knows names and headers. It reads no payload but to check it, writes nothing, and does not know torch, so that
launchers can use it.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec
import xxhash

from ft_horovod.commit.host_slices import Header, Slice
from ft_horovod.core.errors import CommitError

SHM = Path("/dev/shm")
EMPTY, WRITING, WHOLE = 0, 1, 2

MAGIC = b"ft-horovod host memory 1"
FIRST = struct.Struct("=24sQ")  # magic, bytes of a payload
STATE = struct.Struct("=Q")  # only its lowest byte ever changes, so it is never seen half written
LENGTH_AND_CHECK = struct.Struct("=QQ")  # of the encoded header
_HEADER_BYTES = 24 << 10
_ALIGN = 64 << 10  # what may be mapped starts at a multiple of this on every machine
_NAME = re.compile(r"ft-horovod-(?P<run>[^.]+)\.(?P<host>[^.]+)\.(?P<slot>\d{1,9})(?P<aside>~{0,2})")


class Place(NamedTuple):
    """Whose memory it is."""

    run_name: str
    host: str  # several may share a machine in tests
    slot: int
    folder: Path = SHM

    @property
    def path(self) -> Path:
        return self.folder / f"ft-horovod-{_quoted(self.run_name)}.{_quoted(self.host)}.{self.slot}"


def _quoted(name: str) -> str:
    return quote(name, safe="").replace(".", "%2E")


class Layout(NamedTuple):
    """Where things are in a file whose slices have up to `payload_bytes`."""

    payload_bytes: int

    def header_at(self, side: int) -> int:
        return _ALIGN // 4 + side * _HEADER_BYTES

    def payload_at(self, side: int) -> int:
        return _ALIGN + side * -(-self.payload_bytes // _ALIGN) * _ALIGN

    @property
    def size_bytes(self) -> int:
        return self.payload_at(2)


def needed_bytes(elements: int) -> int:
    """What a worker whose slices have up to `elements` takes."""
    return Layout(4 * elements).size_bytes


def encoded(header: Header) -> bytes:
    """What stands behind the state word. Raises CommitError when it is too long."""
    body = msgspec.msgpack.encode(header)
    if len(body) > _HEADER_BYTES - STATE.size - LENGTH_AND_CHECK.size:
        raise CommitError(f"the description of a slice takes {len(body)} bytes, at most {_HEADER_BYTES >> 10} KiB")
    return LENGTH_AND_CHECK.pack(len(body), xxhash.xxh3_64_intdigest(body)) + body


def opened(path: Path, flags: int) -> int:
    """A descriptor of a file of ours. Raises FileNotFoundError, and CommitError when it is not to be trusted."""
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        problem = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be opened: {error.strerror}"
        raise CommitError(f"{path}: {problem}") from error
    found = os.fstat(fd)
    ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink <= 1
    if ours and not found.st_mode & 0o077:
        return fd
    os.close(fd)
    raise CommitError(f"{path}: not a file that this user alone can open, by this name alone")


def layout_of(fd: int) -> Layout | None:
    """The layout of an open file; None when it is not one of ours, or cut off."""
    raw = os.pread(fd, FIRST.size, 0)
    if len(raw) < FIRST.size:
        return None
    magic, payload_bytes = FIRST.unpack(raw)
    layout = Layout(payload_bytes)
    return layout if magic == MAGIC and os.fstat(fd).st_size == layout.size_bytes else None


def read_header(fd: int, layout: Layout, side: int) -> Header | None:
    """The header of a whole slice; None when there is none, or it is damaged or just being written."""
    raw = os.pread(fd, _HEADER_BYTES, layout.header_at(side))
    if len(raw) < _HEADER_BYTES or STATE.unpack_from(raw)[0] != WHOLE:
        return None
    length, check = LENGTH_AND_CHECK.unpack_from(raw, STATE.size)
    body = raw[STATE.size + LENGTH_AND_CHECK.size :][:length]
    if xxhash.xxh3_64_intdigest(body) != check:
        return None
    try:
        header = msgspec.msgpack.decode(body, type=Header)
    except msgspec.MsgspecError:
        return None
    return header if 4 * header.meta.elements <= layout.payload_bytes else None


def mapped(one: Slice) -> memoryview:
    """The payload of a slice, checked. Raises CommitError when it is damaged or gone.

    It is mapped rather than read: read(2) of a tmpfs file takes 2.8 times as long as copying the same bytes.
    """
    try:
        fd = opened(Path(one.path), os.O_RDONLY)
    except FileNotFoundError as error:
        raise CommitError(f"{one.path}: is gone") from error
    try:
        layout = layout_of(fd)
        if layout is None or read_header(fd, layout, one.side) != one.header:
            raise CommitError(f"{one.path}: step {one.meta.step} was written over, or its header is damaged")
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        view = memoryview(
            mmap.mmap(fd, 4 * one.meta.elements, flags, mmap.PROT_READ, offset=layout.payload_at(one.side))
        )
    except OSError as error:
        raise CommitError(f"{one.path}: cannot be read: {error.strerror}") from error
    finally:
        os.close(fd)
    fits = xxhash.xxh3_64_intdigest(view) == one.header.checksum
    if not still_there(one):
        raise CommitError(f"{one.path}: step {one.meta.step} was written over while it was checked")
    if not fits:
        raise CommitError(f"{one.path}: step {one.meta.step}: the checksum does not fit the contents")
    return view


def still_there(one: Slice) -> bool:
    """Whether the file holds exactly this slice now."""
    try:
        fd = opened(Path(one.path), os.O_RDONLY)
    except (OSError, CommitError):
        return False
    try:
        layout = layout_of(fd)
        return layout is not None and read_header(fd, layout, one.side) == one.header
    finally:
        os.close(fd)


class Entry(NamedTuple):
    """A file by its name."""

    path: Path
    host: str
    slot: int
    aside: bool  # by its name there is, or was, an older one


def entries(folder: Path, run_name: str, host: str | None) -> Iterator[Entry]:
    """The files named after a run and a host (None: all), whatever is in them."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and unquote(match["run"]) == run_name and host in (None, unquote(match["host"])):
            yield Entry(path, unquote(match["host"]), int(match["slot"]), bool(match["aside"]))


def slices_in(entry: Entry) -> list[Slice]:
    """The whole slices of a file. Raises CommitError when it is not to be trusted, FileNotFoundError when gone."""
    fd = opened(entry.path, os.O_RDONLY)
    try:
        layout = layout_of(fd)
        if layout is None:
            raise CommitError(f"{entry.path}: damaged: its size and its first bytes do not fit")
        headers = [(side, read_header(fd, layout, side)) for side in (0, 1)]
    finally:
        os.close(fd)
    return [
        Slice(path=str(entry.path), host=entry.host, slot=entry.slot, side=side, header=header)
        for side, header in headers
        if header is not None
    ]
