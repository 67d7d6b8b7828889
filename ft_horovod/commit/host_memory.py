"""Host memory: each worker's slice of the state in a file of /dev/shm, which outlives the process.

A worker alternates between the two slices of its file and never touches the newest one that is confirmed: of which all
members have their part. So a death of all at any byte leaves a commit that is whole and at most one commit old. A slice
is invalidated before its payload is written and validated, by one store, after everything else is there; a dead
process's stores stay. So no checksum is needed against torn commits; it is there against flipped bits and bugs. For
51 MB, which a memcpy copies in 2.9 ms, XXH3 takes 1.7 ms; a plain sum of the words 1.8, and it does not see words that
change places; crc32 8.6, adler32 16, sha256 32, blake2b 60. Copy and checksum go together, chunk by chunk while it is
in the cache, and take 1.4 times as long as the memcpy. The slices are written through a mapping: with pwrite(2) copy
and checksum take 2.6 times as long as the memcpy.

This module knows memory. When to commit, and what the metadata mean, it does not know.
"""

from __future__ import annotations

import errno
import mmap
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import xxhash

from ft_horovod.commit.host_files import (
    FIRST,
    MAGIC,
    STATE,
    WHOLE,
    WRITING,
    Layout,
    Place,
    encoded,
    layout_of,
    mapped,
    opened,
    read_header,
    still_there,
)
from ft_horovod.commit.host_memory_folder import room
from ft_horovod.commit.host_slices import Header, Meta, Slice
from ft_horovod.core.errors import CommitError, InvalidTransition

Moment = Callable[[str], None]  # told "begun", "chunk" after each, "header", "whole", "named": where a test may kill

_SETTLE_S = 30.0
_POLL_S = 0.01


class HostMemory:
    """The writing side: one worker's file, and one thread that copies into it."""

    def __init__(
        self,
        place: Place,
        elements: int,
        *,
        keep: Slice | None = None,
        chunk_bytes: int = 4 << 20,
        at: Moment = lambda _: None,
    ) -> None:
        """Make a file for slices of up to `elements` float32, or take over that of `keep`. Raises CommitError.

        `keep` is the slice of this place that the state was loaded from: it stays until a newer one is confirmed.

        An older file stays as it is until a commit in the new one is confirmed. All memory is taken here:
        a full /dev/shm is an error now, and not a SIGBUS later.
        """
        self.path = place.path
        self._layout, self._chunk, self._at = Layout(4 * elements), chunk_bytes // 4, at
        self._aside: Path | None = None
        self._sequence, self._kept_side = 0, 1
        self._written: int | None = None  # the side of the last whole commit that is not confirmed
        try:
            fd = self._existing(keep)
            if fd is None:
                self._aside = next(path for path in self._asides() if keep is None or str(path) != keep.path)
                fd = self._created(self._aside, place)
            try:
                os.posix_fallocate(fd, 0, self._layout.size_bytes)  # nothing to do unless somebody made holes
                self._map = mmap.mmap(fd, self._layout.size_bytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
            finally:
                os.close(fd)
        except OSError as error:
            raise CommitError(f"{self.path}: cannot be made: {error.strerror}") from error
        self._payloads = [
            np.frombuffer(self._map, np.float32, elements, self._layout.payload_at(side)) for side in (0, 1)
        ]
        self._error: CommitError | None = None
        self._given_up = False
        self._idle = threading.Event()
        self._idle.set()
        self._jobs: queue.SimpleQueue[tuple[Meta, torch.Tensor] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="host-memory", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether nothing is being copied: the source may change again."""
        return self._idle.is_set()

    @property
    def error(self) -> CommitError | None:
        """What was wrong with the last commit begun; None while it is being written and when it is whole."""
        return self._error

    def begin(self, meta: Meta, source: torch.Tensor) -> None:
        """Copy `source` [end - begin], float32, in the background; it must not change until `done` or `settle`."""
        if not self.done:
            raise InvalidTransition(f"{self.path}: a commit was begun while another one was being written")
        if source.dtype != torch.float32 or source.shape != (meta.elements,) or not source.is_contiguous():
            raise InvalidTransition(
                f"{self.path}: {source.dtype} {tuple(source.shape)} is not [{meta.elements}] float32"
            )
        self._error, self._given_up = None, False
        self._idle.clear()
        self._jobs.put((meta, source.detach()))

    def settle(self, beat: Callable[[], None] = lambda: None, limit_s: float = _SETTLE_S) -> float:
        """Wait until the source may change; returns the seconds waited.

        After `limit_s` the commit is given up, as `error` says then; the older one stays. What is still being copied
        meanwhile never becomes whole.
        """
        started = time.monotonic()
        while not self._idle.wait(_POLL_S):
            beat()
            if time.monotonic() - started > limit_s:
                self._given_up = True
                self._error = CommitError(f"{self.path}: not copied within {limit_s:.0f} s")
                break
        return time.monotonic() - started

    def close(self) -> None:
        """End the thread after the commit in hand; the file stays."""
        self._jobs.put(None)
        self._thread.join(_SETTLE_S)

    def confirm(self) -> None:
        """All members' last commits are whole: what is older may go."""
        if self._written is None:
            return
        self._give_name()
        self._kept_side, self._written = self._written, None

    def _give_name(self) -> None:
        if self._aside is not None:
            self._aside.replace(self.path)
            for name in self._asides():
                name.unlink(missing_ok=True)  # what else is older
            self._aside = None
            self._at("named")

    def _asides(self) -> tuple[Path, Path]:
        return self.path.with_name(self.path.name + "~"), self.path.with_name(self.path.name + "~~")

    def _existing(self, keep: Slice | None) -> int | None:
        """The file of a life before that `keep` is in, if it has the same layout. Names stay: others may be reading."""
        path = self.path if keep is None else Path(keep.path)
        try:
            fd = opened(path, os.O_RDWR)
        except FileNotFoundError:
            return None
        if keep is None or layout_of(fd) != self._layout:
            os.close(fd)
            return None
        headers = (read_header(fd, self._layout, side) for side in (0, 1))
        self._sequence = max((header.sequence for header in headers if header is not None), default=0)
        self._kept_side = keep.side
        self._aside = None if path == self.path else path
        return fd

    def _created(self, aside: Path, place: Place) -> int:
        aside.unlink(missing_ok=True)
        fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                os.posix_fallocate(fd, 0, self._layout.size_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC or not self.path.exists():
                    raise
                self.path.unlink()  # no room for both: what does not fit this run any more has to go first
                os.posix_fallocate(fd, 0, self._layout.size_bytes)
            os.pwrite(fd, FIRST.pack(MAGIC, self._layout.payload_bytes), 0)
        except OSError as error:
            os.close(fd)
            aside.unlink(missing_ok=True)
            problem = room(self._layout.size_bytes, place.folder) if error.errno == errno.ENOSPC else None
            raise CommitError(problem or f"{self.path}: cannot be made: {error.strerror}") from error
        return fd

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._write(*job)
            except CommitError as error:
                self._error = error
            except OSError as error:
                self._error = CommitError(f"{self.path}: cannot be written: {error.strerror}")
            except RuntimeError as error:  # how torch reports a device that fails
                self._error = CommitError(f"{self.path}: the state cannot be copied: {error}")
            finally:
                del job  # it would keep the source alive
                self._idle.set()

    def _write(self, meta: Meta, source: torch.Tensor) -> None:
        side = 1 - self._kept_side
        if 4 * meta.elements > self._layout.payload_bytes:
            raise CommitError(f"{self.path}: {meta.elements} elements, made for {self._layout.payload_bytes // 4}")
        header_at = self._layout.header_at(side)
        STATE.pack_into(self._map, header_at, WRITING)
        self._at("begun")
        checksum = self._copy(source, self._payloads[side])
        header = Header(sequence=self._sequence + 1, written_at_s=time.time(), checksum=checksum, meta=meta)
        raw = encoded(header)
        self._map[header_at + STATE.size : header_at + STATE.size + len(raw)] = raw
        self._at("header")
        STATE.pack_into(self._map, header_at, WHOLE)
        self._sequence, self._written = header.sequence, side
        self._at("whole")
        if not self.path.exists():
            self._give_name()  # there is nothing older

    def _copy(self, source: torch.Tensor, payload: np.ndarray[tuple[int], np.dtype[np.float32]]) -> int:
        """Copies in one thread: torch would start a pool of threads for this one, beside the training's."""
        check = xxhash.xxh3_64()
        on_host = source.device.type == "cpu"
        for start in range(0, len(source), self._chunk):
            part = source[start : start + self._chunk]
            there = payload[start : start + len(part)]
            if on_host:
                np.copyto(there, part.numpy())
            else:
                torch.from_numpy(there).copy_(part)
            check.update(there.data)
            self._at("chunk")
            if self._given_up:
                raise CommitError(f"{self.path}: given up, it took too long")
        return check.intdigest()


def load(slices: Sequence[Slice], into: torch.Tensor) -> None:
    """Copy slices of this host into a stage's flat state [total], float32. Raises CommitError, naming the file.

    Every payload is checked before the first is copied, so `into` is unchanged if one is damaged. Only if a file is
    written over while it is copied, by a worker that lives after all, is `into` left changed when this raises. Of
    205 MB, mapping and unmapping take 1.8 times as long as a memcpy of as much, the checksum 0.6, the copy 1.1.
    """
    if into.dtype != torch.float32 or into.dim() != 1 or not into.is_contiguous():
        raise InvalidTransition(f"{into.dtype} {tuple(into.shape)} is no flat float32 state")
    for one in slices:
        if one.meta.total != len(into):
            raise CommitError(f"{one.path}: a slice of {one.meta.total} elements in all, expected {len(into)}")
    payloads = [np.frombuffer(mapped(one), np.float32) for one in slices]
    for one, payload in zip(slices, payloads, strict=True):
        there = into[one.meta.begin : one.meta.end]
        if into.device.type == "cpu":
            np.copyto(there.detach().numpy(), payload)
        else:
            there.copy_(torch.from_numpy(payload.copy()))
    for one in slices:
        if not still_there(one):
            raise CommitError(f"{one.path}: step {one.meta.step} was written over while it was copied")
