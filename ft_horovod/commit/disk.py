"""Commits on disk: safetensors files, written aside and renamed, the newest few commits kept.

A commit is one file, or one for each stage; it counts once all its files are there. A file holds tensors under the
model's own names and the optimizer's momentum as `momentum.<name>`, so that any tool that reads safetensors can use it,
and a run that is cut otherwise can go on from it; its metadata holds how far the run was and a checksum. No pickle:
loading a file from elsewhere runs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ft_horovod.core.errors import CommitError

_NAME = re.compile(r"step-(?P<step>\d{9})(\.stage-(?P<stage>\d)-of-(?P<stages>\d))?\.safetensors")

Tensors = Mapping[str, torch.Tensor]
Done = Callable[[float, int, OSError | None], None]


class Part(NamedTuple):
    """Which part of a commit a file holds."""

    stage: int = 0
    stages: int = 1

    def name(self, step: int) -> str:
        """The file's name."""
        stage = "" if self.stages == 1 else f".stage-{self.stage}-of-{self.stages}"
        return f"step-{step:09d}{stage}.safetensors"


WHOLE = Part()


class DiskCommits:
    """The commits of a run folder."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self._keep = folder, keep
        self._staging: torch.Tensor | None = None
        self._thread: threading.Thread | None = None

    def steps(self) -> list[int]:
        """The steps that whole commits are there for, oldest first."""
        found = self._found()
        return sorted(step for step, parts in found.items() if _whole(parts))

    def path(self, step: int, part: Part = WHOLE) -> Path:
        return self.folder / part.name(step)

    @property
    def busy(self) -> bool:
        """Whether a commit is still being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(
        self, step: int, part: Part, state: torch.Tensor, named: Tensors, metadata: Mapping[str, str], done: Done
    ) -> float:
        """Copy `state` aside and write it in the background; returns the seconds the copy took.

        `named` are views of `state` that cover all of it. `done(write_s, size_bytes, problem)` is called in the
        background thread.
        """
        self.wait()
        started = time.monotonic()
        if self._staging is None or self._staging.shape != state.shape:
            self._staging = torch.empty_like(state, device="cpu")
        self._staging.copy_(state)
        stall_s = time.monotonic() - started
        staged = {name: _same_place(view, self._staging) for name, view in named.items()}

        def write() -> None:
            problem: OSError | None = None
            size = 0
            try:
                size = self._write(step, part, staged, metadata)
            except OSError as error:
                problem = error
            except SafetensorError as error:  # safetensors wraps what the system says about writing
                problem = OSError(str(error))
            done(time.monotonic() - started, size, problem)

        self._thread = threading.Thread(target=write, name="disk-commit", daemon=True)
        self._thread.start()
        return stall_s

    def wait(self, beat: Callable[[], None] = lambda: None) -> None:
        """Until nothing is being written any more."""
        while self.busy and self._thread is not None:
            self._thread.join(0.01)
            beat()

    def _write(self, step: int, part: Part, tensors: Tensors, metadata: Mapping[str, str]) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.path(step, part)
        aside = target.with_suffix(f".{os.getpid()}.writing")
        try:
            tagged = {**metadata, "format": "ft-horovod 2", "step": str(step), "sha256": _sha256(tensors)}
            save_file(dict(tensors), aside, tagged)
            _fsync(aside)
            aside.replace(target)
            _fsync(self.folder)
        finally:
            aside.unlink(missing_ok=True)
        self._drop_old(part)
        return target.stat().st_size

    def _drop_old(self, mine: Part) -> None:
        """Files of this part that are older than the newest few whole commits."""
        oldest_kept = (self.steps() or [0])[-self._keep :][0]
        for step, parts in self._found().items():
            if step < oldest_kept and mine in parts:
                self.path(step, mine).unlink(missing_ok=True)

    def read(self, step: int) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
        """Metadata and all tensors of a commit, by name. Raises CommitError when anything of it is damaged."""
        metadata: dict[str, str] = {}
        tensors: dict[str, torch.Tensor] = {}
        for path in self._files(step):
            try:
                with safe_open(path, "pt") as file:
                    metadata = file.metadata() or {}
                    part = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            except (OSError, SafetensorError) as error:
                raise CommitError(f"{path}: cannot be read: {error}") from error
            if metadata.get("sha256") != _sha256(part):
                raise CommitError(f"{path}: the checksum does not fit the contents")
            tensors |= part
        return metadata, tensors

    def load(self, step: int, into: Tensors) -> None:
        """Read the commit of `step` into tensors by name. Raises CommitError, and `into` is then unchanged."""
        _, found = self.read(step)
        for name, view in into.items():
            if name not in found or found[name].shape != view.shape:
                shape = tuple(found[name].shape) if name in found else None
                raise CommitError(
                    f"{self.path(step)}: another model's: {name} is {shape}, expected {tuple(view.shape)}"
                )
        for name, view in into.items():
            view.copy_(found[name])

    def _files(self, step: int) -> Iterator[Path]:
        parts = sorted(self._found().get(step, []))
        whole = [part for part in parts if len([p for p in parts if p.stages == part.stages]) == part.stages]
        if not whole:
            raise CommitError(f"{self.path(step)}: there is no whole commit of this step")
        return (self.path(step, part) for part in whole if part.stages == whole[0].stages)

    def _found(self) -> dict[int, set[Part]]:
        found: dict[int, set[Part]] = {}
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if match := _NAME.fullmatch(path.name):
                part = Part(int(match["stage"] or 0), int(match["stages"] or 1))
                found.setdefault(int(match["step"]), set()).add(part)
        return found


def _whole(parts: set[Part]) -> bool:
    return any(len([part for part in parts if part.stages == stages]) == stages for _, stages in parts)


def _same_place(view: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The part of `other`, a tensor like the base of `view`, that `view` is of its own."""
    start = view.storage_offset()
    return other[start : start + view.numel()].view(view.shape)


def _sha256(tensors: Tensors) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].contiguous().view(-1).numpy().view("u1").data)
    return found.hexdigest()


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
