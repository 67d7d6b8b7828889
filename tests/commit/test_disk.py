"""Commits on disk: what is written is read back, and what is damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from ft_horovod.commit.disk import WHOLE, DiskCommits, Part
from ft_horovod.core.errors import CommitError

Outcome = tuple[float, int, OSError | None]


def views(state: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"b": state[:6].view(2, 3), "a": state[6:]}


def state(value: float = 0.0) -> torch.Tensor:
    return torch.arange(10, dtype=torch.float32) + value


def write(commits: DiskCommits, step: int, value: float = 0.0, part: Part = WHOLE) -> Outcome:
    outcomes: list[Outcome] = []
    flat = state(value)
    commits.begin(step, part, flat, views(flat), {"note": "hello"}, lambda *outcome: outcomes.append(outcome))
    commits.wait()
    return outcomes[0]


def read(commits: DiskCommits, step: int) -> torch.Tensor:
    into = torch.zeros(10)
    commits.load(step, views(into))
    return into


@pytest.fixture
def commits(tmp_path: Path) -> DiskCommits:
    return DiskCommits(tmp_path / "commits", 2)


def test_a_commit_comes_back_bit_for_bit(commits: DiskCommits) -> None:
    seconds, size, problem = write(commits, 5, 0.1)
    assert problem is None
    assert seconds > 0
    assert size == commits.path(5).stat().st_size
    assert torch.equal(read(commits, 5), state(0.1))
    assert commits.read(5)[0]["note"] == "hello"
    with safe_open(commits.path(5), "pt") as file:  # any reader of the format can use it
        assert torch.equal(file.get_tensor("b"), state(0.1)[:6].view(2, 3))


def test_the_state_may_change_while_it_is_written(commits: DiskCommits) -> None:
    going_on = state()
    commits.begin(1, WHOLE, going_on, views(going_on), {}, lambda *_: None)
    going_on.fill_(-1)
    commits.wait()
    assert torch.equal(read(commits, 1), state())


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
        commits.load(3, views(into))
    assert (into == 7).all()


@pytest.mark.parametrize("change", ["names", "shapes"])
def test_another_models_commit_is_refused(commits: DiskCommits, change: str) -> None:
    write(commits, 3)

    into = torch.zeros(10)
    other = {"a": into[6:], "c": into[:6]} if change == "names" else {"a": into[6:], "b": into[:6].view(3, 2)}
    with pytest.raises(CommitError, match="another model's"):
        commits.load(3, other)
    assert not into.any()


def test_a_folder_that_cannot_be_written_is_reported_and_hurts_nothing(tmp_path: Path) -> None:
    blocked = tmp_path / "commits"
    blocked.write_text("a file where the folder should be")
    commits = DiskCommits(blocked, 2)
    _, _, problem = write(commits, 1)
    assert isinstance(problem, OSError)
    assert commits.steps() == []


def test_what_a_crash_left_behind_is_no_commit(commits: DiskCommits) -> None:
    write(commits, 4)
    (commits.folder / "step-000000009.123.writing").write_bytes(b"half")
    assert commits.steps() == [4]


# Commits in parts.


def write_parts(commits: DiskCommits, step: int, stages: tuple[int, ...], of: int) -> None:
    for stage in stages:
        flat = torch.full((3,), 10.0 * step + stage)
        commits.begin(step, Part(stage, of), flat, {f"layer{stage}": flat}, {}, lambda *_: None)
        commits.wait()


def test_a_commit_in_parts_counts_once_all_are_there(commits: DiskCommits) -> None:
    write_parts(commits, 1, (0, 1, 2), 3)
    write_parts(commits, 2, (0, 2), 3)
    assert commits.steps() == [1]
    with pytest.raises(CommitError, match="no whole commit"):
        commits.read(2)
    write_parts(commits, 2, (1,), 3)
    assert commits.steps() == [1, 2]
    assert {name: float(tensor[0]) for name, tensor in commits.read(2)[1].items()} == {
        "layer0": 20.0,
        "layer1": 21.0,
        "layer2": 22.0,
    }


def test_parts_are_read_by_a_run_that_is_cut_otherwise(commits: DiskCommits) -> None:
    write_parts(commits, 1, (0, 1, 2), 3)
    into = torch.zeros(6)
    commits.load(1, {"layer2": into[:3], "layer1": into[3:]})
    assert into.tolist() == [12.0] * 3 + [11.0] * 3


def test_old_parts_go_once_newer_commits_are_whole(commits: DiskCommits) -> None:
    for step in (1, 2, 3):
        write_parts(commits, step, (0, 1), 2)
    write_parts(commits, 4, (0,), 2)  # never became whole
    assert commits.steps() == [2, 3]
    assert not commits.path(1, Part(0, 2)).exists()
