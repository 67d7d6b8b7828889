"""What fails on disk: it is told with the file's name, and the commit before stands, bit for bit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commit_world import Team, read, stamp, state

from ft_horovod.commit import folder
from ft_horovod.commit.folder import Found
from ft_horovod.core.errors import CommitError

SHARD = "stage-0.shard-2-of-2.safetensors"


def damage(path: Path, kind: str) -> None:
    raw = bytearray(path.read_bytes())
    match kind:
        case "flipped":
            raw[-3] ^= 1
        case "cut":
            raw = raw[:-4]
        case "longer":
            raw += b"\0"
        case "empty":
            raw = bytearray()
        case "rubbish":
            raw = bytearray(os.urandom(len(raw)))
        case "header":
            raw[12] ^= 0xFF
        case "huge header":
            raw[:8] = b"\xff" * 8
        case "text":
            raw = bytearray(b"not a safetensors file".ljust(len(raw)))
    path.unlink() if kind == "missing" else path.write_bytes(raw)


KINDS = ["flipped", "cut", "longer", "empty", "rubbish", "header", "huge header", "text", "missing"]


def looked_at(found: Found) -> Found:
    return folder.look(found.path, found.key)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [SHARD, "manifest.json"])
def test_damage_is_told_by_the_files_name_and_changes_nothing(tmp_path: Path, kind: str, name: str) -> None:
    team = Team(tmp_path / "commits", (2,))
    team.commit(2, 0.5)
    found = team.commit(3)
    damage(found.path / name, kind)
    with pytest.raises(CommitError, match=f"^step-000000003-[0-9a-f]*/{name}: "):
        folder.check(looked_at(found))
    into = torch.full((20,), 7.0)
    with pytest.raises(CommitError, match=name):
        team.leader.load(looked_at(found), {"stage0.d": into[:6], "stage0.a": into[6:15]})
    assert (into == 7).all()
    before = team.leader.found()[-1]
    assert before.key.step == 2
    assert torch.equal(read(team.leader, before), state(0.5))


def test_no_byte_of_a_shard_can_be_another(tmp_path: Path) -> None:
    found = Team(tmp_path / "commits", (2,)).commit(3)
    path = found.path / SHARD
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        with pytest.raises(CommitError, match=SHARD):
            folder.check(found)
    path.write_bytes(raw)
    folder.check(found)


def test_a_renamed_folder_is_no_commit_of_that_step(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits")
    found = team.commit(3)
    found.path.rename(found.path.with_name("step-000000009-00000000"))
    assert team.leader.steps() == []
    assert team.leader.found()[0].problem == "step-000000009-00000000/manifest.json: of step 3: the folder was renamed"


def test_a_shard_of_another_commit_is_not_taken_in(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,), patience_s=0.1)
    one = team.commit(1)
    two = team.commit(2, but=[team.places[1]])
    (two.path / SHARD).write_bytes((one.path / SHARD).read_bytes())
    team.commit(2, but=[team.places[1]])
    assert team.outcome.problem == f"{two.path.name}/{SHARD}: belongs to another commit: {one.path.name}"
    assert team.leader.steps() == [1]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,))
    (tmp_path / "commits").write_text("a file where the folder should be")
    with pytest.raises(NotADirectoryError):
        team.commit(1)
    problems = {outcome.problem for outcome in team.outcomes.values()}
    assert problems == {
        f"{stamp(1).key.name}/stage-0.shard-{number}-of-2.safetensors: cannot be written: Not a directory"
        for number in (1, 2)
    }


def test_a_members_trouble_is_told_by_the_leader_at_once(tmp_path: Path) -> None:
    """The member leaves a note, so that nobody waits for its shard, and the trouble is told once."""
    team = Team(tmp_path / "commits", (2,), patience_s=60.0)
    folder = tmp_path / "commits" / stamp(1).key.name
    aside = folder / f"{SHARD}.{os.getpid()}.writing"
    aside.mkdir(parents=True)  # where the member wants to write
    found = team.commit(1)
    assert found.unfinished
    assert team.outcome.problem is not None
    assert team.outcome.problem.startswith(f"{folder.name}/{SHARD}: cannot be written: ")
    assert team.outcomes[team.places[1]].problem is None


def test_a_manifest_that_cannot_be_written(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,))
    folder = tmp_path / "commits" / stamp(1).key.name
    (folder / f"manifest.json.{os.getpid()}.writing").mkdir(parents=True)
    assert team.commit(1).unfinished
    assert team.outcome.problem == f"{folder.name}/manifest.json: cannot be written: Is a directory"


def test_a_manifest_that_was_damaged_meanwhile_is_written_again(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,))
    found = team.commit(1)
    damage(found.path / "manifest.json", "cut")
    assert team.commit(1).usable
    assert torch.equal(read(team.leader, team.leader.found()[0]), state())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1 MB of space."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], timeout=10, check=True)


def fill(disk: Path) -> Path:
    """Take all space there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    return ballast


def test_a_full_disk(small_disk: Path) -> None:
    team = Team(small_disk / "commits", (2,), patience_s=60.0)
    team.commit(1, 0.5)
    ballast = fill(small_disk)
    for step in (2, 3):
        found = team.commit(step)
        assert found.unfinished
        problems = [outcome.problem for outcome in team.outcomes.values() if outcome.problem]
        assert "cannot be written: " in str(team.outcome.problem)
        assert all("o space left on device" in problem for problem in problems)
        assert not list(found.path.glob("*.writing"))
        assert torch.equal(read(team.leader, team.leader.found()[-1]), state(0.5))
    ballast.unlink()
    team.commit(4, 1.5)
    assert team.outcome.problem is None
    assert team.leader.steps() == [1, 4]
    assert torch.equal(read(team.leader, team.leader.found()[0]), state(1.5))
