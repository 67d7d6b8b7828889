"""When commits are due, what the trace is told, and which one a run goes on from."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
import torch
from commit_world import state, views

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.names import Place
from ft_horovod.core.commit_policy import CommitPolicy, Rhythm, Steps
from ft_horovod.core.errors import CommitError
from ft_horovod.core.trace import CommitFailed, CommitWritten
from ft_horovod.membership.protocol import Progress
from ft_horovod.status.follow import read_trace
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.cadence import Cadence
from ft_horovod.training.keeper import Keeper, Origin

ALONE, ORIGIN = Place(0, 0, (1,)), Origin("a test, seed 3", 3)


class One:
    """A worker's keeper, and what it told."""

    def __init__(self, run: Path, disk: Rhythm = "off", origin: Origin = ORIGIN):
        self.run, self.may_go_on, self.beats = run, threading.Event(), 0
        self.may_go_on.set()
        self.disk = DiskCommits(run / "commits", Retention(2), 60.0, hook=lambda _: self._slow())
        cadence = Cadence(CommitPolicy(disk=disk), "disk", 1e6)
        self.keeper = Keeper(cadence, self.disk, TraceFile(run, "here:0"), self._beat, origin)

    def _slow(self) -> None:
        assert self.may_go_on.wait(30)

    def _beat(self) -> None:
        self.beats += 1

    def commit(self, step: int, value: float = 0.0, place: Place = ALONE) -> None:
        flat = state(value)
        self.keeper.commit_now(Progress(act=step, step=step), place, flat, views(flat), broken=None)

    def told(self) -> list[tuple[type, int, str]]:
        events = [event for event in read_trace(self.run) if isinstance(event, CommitWritten | CommitFailed)]
        return [(type(e), e.step, e.problem if isinstance(e, CommitFailed) else str(e.path)) for e in events]


def path(run: Path, step: int) -> Path:
    return next((run / "commits").glob(f"step-{step:09d}-*"))


def test_the_newest_whole_commit_is_gone_on_from(tmp_path: Path) -> None:
    one = One(tmp_path)
    for step in (3, 6):
        one.commit(step, step)
    other = One(tmp_path)
    assert other.keeper.newest() == Progress(act=6, step=6)
    into = torch.zeros(20)
    other.keeper.load(views(into))
    assert torch.equal(into, state(6))
    assert one.told() == [(CommitWritten, step, f"commits/{path(tmp_path, step).name}") for step in (3, 6)]


def test_the_manifest_says_what_it_is_of(tmp_path: Path) -> None:
    One(tmp_path).commit(3)
    said = msgspec.json.decode((path(tmp_path, 3) / "manifest.json").read_bytes())
    assert (said["identity"], said["seed"], said["step"], said["progress"]["act"]) == (*ORIGIN, 3, 3)


@pytest.mark.parametrize("name", ["manifest.json", "stage-0.shard-1-of-1.safetensors"])
@pytest.mark.parametrize("kind", ["flipped", "cut", "missing"])
def test_a_damaged_one_is_told_by_the_leader_and_the_one_before_is_used(tmp_path: Path, name: str, kind: str) -> None:
    one = One(tmp_path)
    for step in (3, 6):
        one.commit(step, step)
    file = path(tmp_path, 6) / name
    raw = file.read_bytes()
    damaged = {"flipped": raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:], "cut": raw[:-1], "missing": b""}[kind]
    file.write_bytes(damaged) if damaged else file.unlink()
    leader, member = One(tmp_path), One(tmp_path)
    for each in (leader, member):
        assert each.keeper.newest() == Progress(act=3, step=3)
        into = torch.zeros(20)
        each.keeper.load(views(into))
        assert torch.equal(into, state(3))
    leader.keeper.take_over(3)
    leader.keeper.take_over(3)
    failed = [(step, problem) for kind, step, problem in leader.told() if kind is CommitFailed]
    assert [step for step, _ in failed] == [6]
    assert f"/{name}: " in failed[0][1]
    leader.commit(6, 7.0)  # the same attempt once more
    assert One(tmp_path).keeper.newest() == Progress(act=6, step=6)
    assert len(list((tmp_path / "commits").iterdir())) == 2


def test_another_runs_commit_is_refused_and_left_alone(tmp_path: Path) -> None:
    One(tmp_path).commit(6)
    other = One(tmp_path, origin=Origin("another", 3))
    assert other.keeper.newest() is None
    other.keeper.take_over(0)
    assert [(step, "a commit of another run: a test, seed 3" in problem) for _, step, problem in other.told()[1:]] == [
        (6, True)
    ]
    with pytest.raises(CommitError):
        other.keeper.load(views(torch.zeros(20)))
    for step in (1, 2, 3):
        other.commit(step)
    assert One(tmp_path).keeper.newest() == Progress(act=6, step=6)
    assert One(tmp_path, origin=Origin("another", 3)).keeper.newest() == Progress(act=3, step=3)


def test_a_slow_disk_skips_commits_and_says_so_once(tmp_path: Path) -> None:
    one, flat = One(tmp_path, disk=Steps(1)), state()
    assert one.keeper.due(4, 1e-3)
    one.may_go_on.clear()
    one.keeper.begin(Progress(act=4, step=4), ALONE, flat, views(flat))
    assert [one.keeper.due(step, 1e-3) for step in (5, 6, 7)] == [False] * 3
    one.keeper.begin(Progress(act=7, step=7), ALONE, flat, views(flat))  # for others it is due, not for this one
    skipped = [(CommitFailed, 5, "skipped: the commit of step 4 is still being written")]
    assert one.told() == skipped
    one.may_go_on.set()
    one.keeper.finish()
    assert one.keeper.due(10**9, 1e-3)
    assert one.disk.steps() == [4]
    assert one.told() == [*skipped, (CommitWritten, 4, f"commits/{path(tmp_path, 4).name}")]


def test_no_interval_means_never_due(tmp_path: Path) -> None:
    assert not One(tmp_path).keeper.due(1, 1e-3)


def test_the_last_commit_does_not_wait_for_the_dead(tmp_path: Path) -> None:
    """Of a group of two one died while a commit was written: the other gives that one up and writes all of it."""
    one, flat = One(tmp_path), state(2.0)
    one.keeper.begin(Progress(act=4, step=4), Place(0, 0, (2,)), flat, views(flat))
    one.commit(4, 2.0)
    (told, missing), (written, _) = [(kind, text) for kind, _, text in one.told()]
    assert (told, written) == (CommitFailed, CommitWritten)
    assert missing.endswith("/stage-0.shard-2-of-2.safetensors: did not come")
    assert one.beats > 0


def test_somebody_lost_at_the_end_is_not_waited_for(tmp_path: Path) -> None:
    """The others hear of it while the leader waits for the shard that never comes; then all of it is done again."""
    one, flat = One(tmp_path), state(2.0)
    progress = Progress(act=4, step=4)
    one.keeper.commit_now(progress, Place(0, 0, (2,)), flat, views(flat), broken=lambda: one.beats > 3)
    assert not one.disk.busy
    one.keeper.commit_now(progress, ALONE, flat, views(flat), broken=lambda: False)
    assert [kind for kind, _, _ in one.told()] == [CommitFailed, CommitWritten]
    assert one.disk.steps() == [4]


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "commits").write_text("a file")
    one = One(tmp_path)
    assert one.keeper.newest() is None
    one.keeper.take_over(0)
    assert one.told() == [(CommitFailed, 0, "commits: cannot be read: Not a directory")]
