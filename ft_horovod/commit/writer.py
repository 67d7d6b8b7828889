"""How a commit comes to be: each member's shard, then the manifest, then what is old goes.

A file gets its name when it is on the disk. The manifest comes last, from the leader of stage 0, once it has seen every
shard: so a process that is killed at any moment leaves a commit that counts or one that does not, never half of one.
Runs in a background thread; does not know when commits are due.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ft_horovod.commit import folder as folders
from ft_horovod.commit import manifest as manifests
from ft_horovod.commit import shards
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.manifest import FORMAT, Manifest, Stamp
from ft_horovod.commit.names import MANIFEST, Place, Shard, choose
from ft_horovod.commit.shards import Hook, Tensors
from ft_horovod.core.errors import CommitError

_POLL_S = 0.02


@dataclass(frozen=True)
class Task:
    """One worker's part of a commit. `stall_s`: how long it held up training."""

    stamp: Stamp
    place: Place
    shard: Shard
    tensors: Tensors
    stall_s: float


@dataclass(frozen=True)
class Outcome:
    """How one worker's part of a commit ended. Of the leader: the commit as a whole, and the longest stall of all."""

    stall_s: float
    size_bytes: int = 0
    problem: str | None = None


class Writer:
    """Writes to one folder of commits."""

    def __init__(self, commits: Path, retention: Retention, patience_s: float, hook: Hook):
        self._commits, self._retention, self._patience_s, self._hook = commits, retention, patience_s, hook
        self.give_up = threading.Event()  # set: others' shards are not waited for any more

    def carry_out(self, task: Task) -> Outcome:
        """Write what is this worker's to write; in the background thread."""
        folder = self._commits / task.stamp.key.name
        target = task.shard.name
        try:
            if task.place.leads:
                self._drop_unfinished(task.stamp)
            if not folders.look(folder, task.stamp.key).usable:
                self._write_shard(folder, task)
                target = MANIFEST
                if task.place.leads:
                    self._finish(folder, task)
            if not task.place.leads:
                return Outcome(task.stall_s)
            self._drop_old(task.stamp)
            return self._whole(folder, task)
        except CommitError as error:
            return Outcome(task.stall_s, problem=str(error))
        except OSError as error:
            problem = f"{folder.name}/{target}: cannot be written: {error.strerror or error}"
            told = not task.place.leads and _leave_note(folder / task.shard.failed, problem)
            return Outcome(task.stall_s, problem=None if told else problem)

    def _write_shard(self, folder: Path, task: Task) -> None:
        """A file that is there already holds the same state: it was written in this very attempt."""
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            shards.fsync(self._commits)
        if not (folder / task.shard.name).exists():
            notes = {"format": FORMAT, "commit": folder.name, "step": str(task.stamp.step)}
            notes["stall_s"] = f"{task.stall_s:.6f}"
            shards.write(folder / task.shard.name, task.tensors, notes, self._hook)

    def _finish(self, folder: Path, task: Task) -> None:
        chosen = self._gather(folder, task.place)
        described = [shards.describe(folder / shard.name) for shard in chosen]
        for file, notes in described:
            if notes.get("commit") != folder.name:
                raise CommitError(f"{folder.name}/{file.name}: belongs to another commit: {notes.get('commit')}")
        stamp = task.stamp
        manifest = Manifest(
            format=FORMAT,
            step=stamp.step,
            identity=stamp.identity,
            seed=stamp.seed,
            progress=msgspec.Raw(stamp.progress),
            written_at=time.time(),
            shards=tuple(sum(shard.stage == stage for shard in chosen) for stage in range(len(task.place.groups))),
            files=tuple(file for file, _ in described),
        )
        with shards.safely(folder / MANIFEST, self._hook) as aside:
            aside.write_bytes(manifests.encode(manifest))

    def _gather(self, folder: Path, place: Place) -> list[Shard]:
        """Wait for everybody's shard. Raises CommitError with the name of one that does not come."""
        give_up_at = time.monotonic() + self._patience_s
        while True:
            names = {path.name for path in folder.iterdir()}
            chosen, missing = choose(names, place.groups)
            if not missing:
                return chosen
            for shard in missing:
                if shard.failed in names:
                    raise CommitError((folder / shard.failed).read_text(errors="replace"))
            if self.give_up.wait(_POLL_S) or time.monotonic() > give_up_at:
                raise CommitError(f"{folder.name}/{missing[0].name}: did not come")

    def _whole(self, folder: Path, task: Task) -> Outcome:
        """Size of the commit, and the longest of the stalls that its shards tell of."""
        manifest = manifests.decode((folder / MANIFEST).read_bytes(), folder / MANIFEST)
        stalls = [task.stall_s]
        for file in manifest.files:
            with contextlib.suppress(ValueError):
                stalls.append(float(shards.describe(folder / file.name)[1].get("stall_s", "")))
        return Outcome(max(stalls), manifest.size_bytes)

    def _drop_unfinished(self, stamp: Stamp) -> None:
        """Attempts of before are over: this is who would have finished them. They make room for this one."""
        with contextlib.suppress(OSError):
            for found in folders.scan(self._commits):
                if found.unfinished and not found.key.set_aside and found.key.step < stamp.step:
                    folders.remove(found.path)

    def _drop_old(self, stamp: Stamp) -> None:
        """What cannot be removed now is tried again after the next commit."""
        with contextlib.suppress(OSError):
            for found in self._retention.drop(folders.scan(self._commits), stamp.identity, time.time()):
                folders.remove(found.path)


def _leave_note(path: Path, problem: str) -> bool:
    """Tell the leader why a shard will not come; whether that worked."""
    try:
        path.write_text(problem)
    except OSError:
        return False
    return True
