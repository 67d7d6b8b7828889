"""Commits on disk: one safetensors file a commit, written aside and renamed, the newest few kept.

A file holds the model's tensors under their own names and the optimizer's momentum as `momentum.<name>`, so that any
tool that reads safetensors can use it; its metadata holds how far the run was and a checksum of the flat state. No
pickle: loading a file from elsewhere runs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ft_horovod.core.errors import CommitError

_NAME = re.compile(r"step-(\d{9})\.safetensors")

Views = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]


class DiskCommits:
    """The commits of a run folder."""

    def __init__(self, folder: Path, keep: int, views: Views):
        """`views` cuts a flat state into named tensors that cover all of it, in order."""
        self.folder, self._keep, self._views = folder, keep, views
        self._staging: torch.Tensor | None = None
        self._thread: threading.Thread | None = None
        self._problem: OSError | None = None

    def steps(self) -> list[int]:
        """The steps that commits are there for, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for path in self.folder.iterdir() if (found := _NAME.fullmatch(path.name)))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"

    @property
    def busy(self) -> bool:
        """Whether a commit is still being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(
        self,
        step: int,
        state: torch.Tensor,
        metadata: Mapping[str, str],
        done: Callable[[float, int, OSError | None], None],
    ) -> float:
        """Copy `state` aside and write it in the background; returns the seconds the copy took.

        `done(write_s, size_bytes, problem)` is called in the background thread.
        """
        self.wait()
        started = time.monotonic()
        if self._staging is None:
            self._staging = torch.empty_like(state, device="cpu")
        self._staging.copy_(state)
        stall_s = time.monotonic() - started

        def write() -> None:
            problem: OSError | None = None
            size = 0
            try:
                size = self._write(step, metadata)
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

    def _write(self, step: int, metadata: Mapping[str, str]) -> int:
        assert self._staging is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.path(step)
        aside = target.with_suffix(f".{os.getpid()}.writing")
        try:
            tagged = {**metadata, "format": "ft-horovod 1", "step": str(step), "sha256": _sha256(self._staging)}
            save_file(dict(self._views(self._staging)), aside, tagged)
            _fsync(aside)
            aside.replace(target)
            _fsync(self.folder)
        finally:
            aside.unlink(missing_ok=True)
        for old in self.steps()[: -self._keep]:
            self.path(old).unlink(missing_ok=True)
        return target.stat().st_size

    def describe(self, step: int) -> dict[str, str]:
        """The metadata of a commit. Raises CommitError."""
        try:
            with safe_open(self.path(step), "pt") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise CommitError(f"{self.path(step)}: cannot be read: {error}") from error

    def load(self, step: int, into: torch.Tensor) -> None:
        """Read the commit of `step` into a flat state. Raises CommitError, and `into` is then unchanged."""
        path = self.path(step)
        read = torch.empty_like(into, device="cpu")
        views = self._views(read)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if set(file.keys()) != set(views):
                    raise CommitError(f"{path}: holds another model's tensors")
                for name, view in views.items():
                    found = file.get_tensor(name)
                    if found.shape != view.shape:
                        raise CommitError(
                            f"{path}: {name} has shape {tuple(found.shape)}, expected {tuple(view.shape)}"
                        )
                    view.copy_(found)
        except (OSError, SafetensorError) as error:
            raise CommitError(f"{path}: cannot be read: {error}") from error
        if metadata.get("sha256") != _sha256(read):
            raise CommitError(f"{path}: the checksum does not fit the contents")
        into.copy_(read)


def _sha256(state: torch.Tensor) -> str:
    return hashlib.sha256(state.numpy().view("u1").data).hexdigest()


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
