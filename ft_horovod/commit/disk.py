"""Commits on disk: every member writes its shard in the background, and one of them the manifest when all are there.

A commit is a folder; it counts from the moment its manifest stands there, and what a manifest names is never written
again. The files of one attempt at a step have a folder of their own, named by a hash of what they are the state of:
a file that is there already is the one that is to be written. That takes one rule of whoever decides about training:
the leader calls `clear_above` before a step is done again.

Knows one background thread, and which tensors are in which file. When commits are due, and what of a run they hold, is
told.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ft_horovod.commit import folder as folders
from ft_horovod.commit import shards
from ft_horovod.commit.folder import Found, Retention
from ft_horovod.commit.manifest import Stamp
from ft_horovod.commit.names import Place, Shard
from ft_horovod.commit.shards import Hook, Tensors
from ft_horovod.commit.writer import Outcome, Task, Writer
from ft_horovod.core.errors import CommitError

_POLL_S = 0.01

Done = Callable[[float, Outcome], None]


class DiskCommits:
    """The commits of a run folder, and one worker's part in writing them."""

    def __init__(self, folder: Path, retention: Retention, patience_s: float = 20.0, hook: Hook = lambda _: None):
        """`patience_s`: how long others' shards are waited for, once one's own is written. `hook` is called with a
        file's name just before the file gets it, in the thread that writes."""
        self.folder = folder
        self._writer = Writer(folder, retention, patience_s, hook)
        self._staging: torch.Tensor | None = None
        self._thread: threading.Thread | None = None

    # -- writing -------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a commit is still being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, stamp: Stamp, place: Place, state: torch.Tensor, named: Tensors, done: Done) -> None:
        """Copy this worker's part of its stage's `state` aside, and write it in the background.

        `named` are views of the state, all of it in its order. `done(write_s, outcome)` is called in the background
        thread; not at all when there are fewer tensors than members and none for this one.
        """
        self.wait()
        started = time.monotonic()
        runs = shards.runs(named, place.groups[place.stage])
        if place.member >= len(runs):
            return
        run = runs[place.member]
        if self._staging is None or self._staging.numel() != run.stop - run.start:
            self._staging = torch.empty(run.stop - run.start, dtype=state.dtype)
        self._staging.copy_(state[run.start : run.stop])
        shard = Shard(place.stage, place.member + 1, len(runs))
        task = Task(stamp, place, shard, run.views(self._staging), time.monotonic() - started)
        self._writer.give_up.clear()

        def write() -> None:
            outcome = self._writer.carry_out(task)
            done(time.monotonic() - started, outcome)

        self._thread = threading.Thread(target=write, name="disk-commit", daemon=True)
        self._thread.start()

    def wait(self, beat: Callable[[], None] = lambda: None, hurry: Callable[[], bool] = lambda: False) -> None:
        """Until nothing is being written any more; others' shards are not waited for once `hurry` says so."""
        while self.busy and self._thread is not None:
            if hurry():
                self._writer.give_up.set()
            self._thread.join(_POLL_S)
            beat()

    def clear_above(self, step: int, identity: str) -> None:
        """Training goes on from `step`: what is there of later steps, and of the same run, must not be taken for what
        is to come. What was never finished is removed, commits that could not be used are renamed. Raises OSError."""
        for found in folders.scan(self.folder, above=step):
            if found.unfinished:
                folders.remove(found.path)
            elif not found.key.set_aside and (found.manifest is None or found.is_of(identity)):
                folders.set_aside(found)

    # -- reading -------------------------------------------------------------------------------------------------

    def found(self) -> list[Found]:
        """All commits that were not set aside, newest first; which files are there, not what is in them.

        Raises OSError when the folder cannot be read.
        """
        return [found for found in folders.scan(self.folder) if not found.key.set_aside]

    def steps(self) -> list[int]:
        """The steps that whole commits are there for, oldest first."""
        return sorted({found.key.step for found in self.found() if found.usable})

    def load(self, commit: Found, into: Tensors) -> None:
        """Read the files of a commit that hold what is wanted, whoever wrote them, into tensors by name.

        Raises CommitError, and `into` is then unchanged.
        """
        if commit.manifest is None or commit.problem:
            raise CommitError(commit.problem or f"{commit.path.name}: not whole")
        missing = set(into)
        loaded: dict[str, torch.Tensor] = {}
        for file in commit.manifest.files:
            names = [name for name in file.tensors if name in missing]
            if names:
                folders.check(commit, [file.name])
                loaded |= shards.read(commit.path / file.name, names)
                missing -= set(names)
        for name, view in into.items():
            shape, dtype = (tuple(loaded[name].shape), loaded[name].dtype) if name in loaded else (None, None)
            if (shape, dtype) != (tuple(view.shape), view.dtype):
                raise CommitError(
                    f"{commit.path.name}: another model's: {name} is {shape}, expected {tuple(view.shape)}"
                )
        for name, view in into.items():
            view.copy_(loaded[name])
