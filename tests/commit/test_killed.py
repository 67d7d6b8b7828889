"""SIGKILL in every phase of a commit: what is loaded afterwards is the state of the commit it says, bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from killed import contents

from ft_horovod.commit import folder
from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention

PROGRAM = str(Path(__file__).with_name("killed.py"))
SMALL, LARGE = 1 << 10, 32 << 20  # elements; the large one takes long enough to be hit in the middle


def start(commits: Path, step: int, phase: str, member: int = 0, elements: int = SMALL) -> subprocess.Popen[bytes]:
    arguments = [str(commits), str(step), phase, str(member), "2", str(elements)]
    return subprocess.Popen([sys.executable, PROGRAM, *arguments], stdout=subprocess.DEVNULL)


def end(*processes: subprocess.Popen[bytes]) -> list[int]:
    return [process.wait(timeout=40) for process in processes]


def kill_when(process: subprocess.Popen[bytes], seen: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 40
    while not seen():
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < give_up
    process.send_signal(signal.SIGKILL)


def assert_loads(commits: Path, step: int, elements: int = SMALL) -> None:
    """The newest commit is of this step, every byte of it."""
    disk = DiskCommits(commits, Retention(2))
    found = next(one for one in disk.found() if one.usable)
    assert found.key.step == step
    folder.check(found)
    into = {name: torch.zeros(elements // 2) for name in "ab"}
    disk.load(found, into)
    expected = contents(step, elements)
    assert all(torch.equal(into[name], expected[name]) for name in into)


@pytest.fixture
def commits(tmp_path: Path) -> Path:
    """With one whole commit, of step 1."""
    folder = tmp_path / "commits"
    assert end(start(folder, 1, "none", 0), start(folder, 1, "none", 1)) == [0, 0]
    assert_loads(folder, 1)
    return folder


def assert_goes_on(commits: Path) -> None:
    """The next commit becomes whole, and what was left behind goes."""
    assert end(start(commits, 3, "none", 0), start(commits, 3, "none", 1)) == [0, 0]
    assert_loads(commits, 3)
    assert sorted(int(path.name.split("-")[1]) for path in commits.iterdir()) == [1, 3]


def test_between_writing_a_shard_and_its_name(commits: Path) -> None:
    leader, member = start(commits, 2, "shard", 0), start(commits, 2, "none", 1)
    assert end(leader, member) == [-signal.SIGKILL, 0]
    assert len(list(commits.glob("step-000000002-*/*.writing"))) == 1
    assert_loads(commits, 1)
    assert_goes_on(commits)


def test_between_shards_and_manifest(commits: Path) -> None:
    leader = start(commits, 2, "none", 0)  # waits for the other's shard
    kill_when(leader, lambda: any(commits.glob("step-000000002-*/stage-0.shard-1-of-2.safetensors")))
    assert end(leader, start(commits, 2, "none", 1)) == [-signal.SIGKILL, 0]
    assert len(list(commits.glob("step-000000002-*/*.safetensors"))) == 2  # all there but the manifest
    assert_loads(commits, 1)
    assert_goes_on(commits)


def test_between_writing_the_manifest_and_its_name(commits: Path) -> None:
    leader, member = start(commits, 2, "manifest", 0), start(commits, 2, "none", 1)
    assert end(leader, member) == [-signal.SIGKILL, 0]
    assert len(list(commits.glob("step-000000002-*/manifest.json.*.writing"))) == 1
    assert_loads(commits, 1)
    assert_goes_on(commits)


def test_while_a_shard_is_written(commits: Path) -> None:
    leader = start(commits, 2, "none", 0, LARGE)
    kill_when(leader, lambda: any(path.stat().st_size for path in commits.glob("step-000000002-*/*.writing")))
    assert end(leader) == [-signal.SIGKILL]
    left = list(commits.glob("step-000000002-*/*"))
    assert [path.suffix for path in left] == [".writing"]
    assert_loads(commits, 1)
    assert_goes_on(commits)


def test_after_the_manifest_has_its_name(commits: Path) -> None:
    leader, member = start(commits, 2, "none", 0), start(commits, 2, "none", 1)
    kill_when(leader, lambda: any(commits.glob("step-000000002-*/manifest.json")))
    end(leader, member)
    assert_loads(commits, 2)
