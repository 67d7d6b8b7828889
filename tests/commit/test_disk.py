"""Commits on disk: what is written is read back, and what is damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.core.errors import CommitError

Outcome = tuple[float, int, OSError | None]


def views(state: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"a": state[:6].view(2, 3), "b": state[6:]}


def state(value: float = 0.0) -> torch.Tensor:
    return torch.arange(10, dtype=torch.float32) + value


def write(commits: DiskCommits, step: int, value: float = 0.0) -> Outcome:
    outcomes: list[Outcome] = []
    commits.begin(step, state(value), {"note": "hello"}, lambda *outcome: outcomes.append(outcome))
    commits.wait()
    return outcomes[0]


@pytest.fixture
def commits(tmp_path: Path) -> DiskCommits:
    return DiskCommits(tmp_path / "commits", 2, views)


def test_a_commit_comes_back_bit_for_bit(commits: DiskCommits) -> None:
    seconds, size, problem = write(commits, 5, 0.1)
    assert problem is None
    assert seconds > 0
    assert size == commits.path(5).stat().st_size
    read = torch.zeros(10)
    commits.load(5, read)
    assert torch.equal(read, state(0.1))
    assert commits.describe(5)["note"] == "hello"
    with safe_open(commits.path(5), "pt") as file:  # any reader of the format can use it
        assert torch.equal(file.get_tensor("a"), state(0.1)[:6].view(2, 3))


def test_the_state_may_change_while_it_is_written(commits: DiskCommits) -> None:
    going_on = state()
    commits.begin(1, going_on, {}, lambda *_: None)
    going_on.fill_(-1)
    commits.wait()
    read = torch.zeros(10)
    commits.load(1, read)
    assert torch.equal(read, state())


def test_the_newest_few_are_kept(commits: DiskCommits) -> None:
    for step in (1, 5, 9, 12):
        write(commits, step)
    assert commits.steps() == [9, 12]
    assert sorted(path.name for path in commits.folder.iterdir()) == [commits.path(9).name, commits.path(12).name]


def damage(path: Path, kind: str) -> None:
    raw = bytearray(path.read_bytes())
    match kind:
        case "flipped":
            raw[-3] ^= 1
        case "cut":
            raw = raw[:-4]
        case "empty":
            raw = bytearray()
        case "rubbish":
            raw = bytearray(os.urandom(200))
        case "header":
            raw[12] ^= 0xFF
    path.write_bytes(raw)


@pytest.mark.parametrize("kind", ["flipped", "cut", "empty", "rubbish", "header"])
def test_a_damaged_commit_is_refused_and_changes_nothing(commits: DiskCommits, kind: str) -> None:
    write(commits, 3)
    damage(commits.path(3), kind)
    into = torch.full((10,), 7.0)
    with pytest.raises(CommitError, match=r"step-000000003\.safetensors"):
        commits.load(3, into)
    assert (into == 7).all()


@pytest.mark.parametrize("change", ["names", "shapes"])
def test_another_models_commit_is_refused(commits: DiskCommits, tmp_path: Path, change: str) -> None:
    write(commits, 3)

    def other(state: torch.Tensor) -> dict[str, torch.Tensor]:
        if change == "names":
            return {"a": state[:6], "c": state[6:]}
        return {"a": state[:6].view(3, 2), "b": state[6:]}

    with pytest.raises(CommitError):
        DiskCommits(commits.folder, 2, other).load(3, torch.zeros(10))


def test_a_folder_that_cannot_be_written_is_reported_and_hurts_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "commits"
    blocked.write_text("a file where the folder should be")
    commits = DiskCommits(blocked, 2, views)
    _, _, problem = write(commits, 1)
    assert isinstance(problem, OSError)
    assert commits.steps() == []


def test_what_a_crash_left_behind_is_no_commit(commits: DiskCommits) -> None:
    write(commits, 4)
    (commits.folder / "step-000000009.123.writing").write_bytes(b"half")
    assert commits.steps() == [4]
