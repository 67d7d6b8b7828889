"""Commits on disk: what is written is read back by whoever asks, and a commit is whole or does not count."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from commit_world import SIZES, Team, names, read, stamp, state, views
from safetensors import safe_open

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.names import Place
from ft_horovod.core.errors import CommitError


@pytest.mark.parametrize("groups", [(1,), (3,), (9,), (1, 1), (2, 1, 3)])
def test_a_commit_comes_back_bit_for_bit(tmp_path: Path, groups: tuple[int, ...]) -> None:
    team = Team(tmp_path / "commits", groups)
    found = team.commit(5, 0.1)
    assert found.usable
    assert found.manifest is not None
    assert found.manifest.shards == tuple(min(size, len(SIZES)) for size in groups)
    assert team.outcome.problem is None
    assert team.outcome.size_bytes == sum(path.stat().st_size for path in found.path.glob("*.safetensors"))
    assert names(found.path) == sorted(["manifest.json", *(file.name for file in found.manifest.files)])
    for stage in range(len(groups)):
        assert torch.equal(read(team.leader, found, stage), state(0.1, stage))


def test_any_reader_of_the_format_can_use_a_shard(tmp_path: Path) -> None:
    found = Team(tmp_path / "commits", (2,)).commit(5, 0.1)
    with safe_open(found.path / "stage-0.shard-1-of-2.safetensors", "pt") as file:
        assert sorted(file.keys()) == ["stage0.b", "stage0.d"]
        assert torch.equal(file.get_tensor("stage0.b"), state(0.1)[6:10].view(2, 2))
        assert file.metadata()["step"] == "5"


def test_each_writes_only_its_part(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (4,))
    team.commit(5)
    staged = [disk._staging.numel() for disk in team.disks.values() if disk._staging is not None]
    assert sorted(staged) == sorted(SIZES)


def test_a_run_that_is_cut_otherwise_reads_what_it_needs(tmp_path: Path) -> None:
    """Tensors of two stages go into one state; a file that holds none of them is not even opened."""
    team = Team(tmp_path / "commits", (2, 2))
    found = team.commit(5)
    (found.path / "stage-1.shard-2-of-2.safetensors").write_bytes(b"x" * 8)
    into = torch.zeros(10)
    one = views(state(stage=1), 1)
    team.leader.load(found, {"stage1.b": into[:4].view(2, 2), "stage0.d": into[4:]})
    assert torch.equal(into, torch.cat([one["stage1.b"].flatten(), views(state())["stage0.d"]]))
    with pytest.raises(CommitError, match=r"stage-1\.shard-2-of-2\.safetensors"):
        team.leader.load(found, {"stage1.a": torch.zeros(9)})


@pytest.mark.parametrize("change", ["names", "shapes", "types"])
def test_another_models_commit_is_refused(tmp_path: Path, change: str) -> None:
    team = Team(tmp_path / "commits")
    found = team.commit(3)
    a, into = torch.zeros(9), torch.zeros(4)
    other = {
        "names": {"stage0.x": into},
        "shapes": {"stage0.b": into},
        "types": {"stage0.b": into.double().view(2, 2)},
    }[change]
    with pytest.raises(CommitError, match=r"step-000000003-.*another model's"):
        team.leader.load(found, {"stage0.a": a, **other})
    assert not a.any()
    assert not into.any()


def test_without_a_manifest_it_does_not_count(tmp_path: Path) -> None:
    """A shard that never comes is told by name, and the commit before stands."""
    team = Team(tmp_path / "commits", (2, 2), patience_s=0.3)
    team.commit(1)
    missing = Place(1, 0, (2, 2))
    found = team.commit(2, but=[missing])
    assert found.unfinished
    assert team.outcome.problem == f"{found.path.name}/stage-1.shard-1-of-2.safetensors: did not come"
    assert team.leader.steps() == [1]
    with pytest.raises(CommitError, match="not finished"):
        read(team.leader, found)
    team.commit(3)
    assert team.leader.steps() == [1, 3]
    assert not found.path.exists()


def test_waiting_for_others_can_be_cut_short(tmp_path: Path) -> None:
    place = Place(0, 0, (2,))
    disk, flat, told = DiskCommits(tmp_path / "commits", Retention(2)), state(), threading.Event()
    disk.begin(stamp(1), place, flat, views(flat), lambda *_: told.set())
    disk.wait(hurry=lambda: True)
    assert told.is_set()
    assert disk.steps() == []


def test_the_longest_stall_of_all_is_told(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (3,))
    team.commit(1)
    stalls = [outcome.stall_s for outcome in team.outcomes.values()]
    assert team.outcome.stall_s == pytest.approx(max(stalls), abs=1e-6)


def test_what_is_whole_is_not_written_again(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,))
    path = team.commit(1).path
    before = {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in path.iterdir()}
    again = Team(tmp_path / "commits", (1,))  # it stops with what it has just committed, and fewer members
    again.commit(1)
    assert again.outcome.problem is None
    assert again.outcome.size_bytes == team.outcome.size_bytes
    assert {one.name: (one.stat().st_ino, one.stat().st_mtime_ns) for one in path.iterdir()} == before


def test_the_last_of_a_group_finishes_what_its_group_began(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (3,), patience_s=0.1)
    team.commit(1, 0.5, but=[team.places[2]])
    alone = Team(tmp_path / "commits", (1,))
    found = alone.commit(1, 0.5)
    assert found.manifest is not None
    assert found.manifest.shards == (1,)
    assert torch.equal(read(alone.leader, found), state(0.5))


def test_a_step_done_again_is_not_mixed_with_what_was_left_of_it(tmp_path: Path) -> None:
    """Same step, same progress, other bits: what the dead left is gone before anybody gets there again."""
    team = Team(tmp_path / "commits", (2,), patience_s=0.1)
    team.commit(4, 1.0)
    team.commit(5, 2.0, but=[team.places[0]])
    team.leader.clear_above(4, "a test")
    found = team.commit(5, 3.0)
    assert torch.equal(read(team.leader, found), state(3.0))
    assert team.leader.steps() == [4, 5]


def test_a_commit_that_could_not_be_used_makes_room_for_the_next_attempt(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,))
    team.commit(4, 1.0)
    damaged = team.commit(5, 2.0)
    team.leader.clear_above(4, "another run")  # whose commits are none of its business
    assert damaged.path.exists()
    team.leader.clear_above(4, "a test")
    assert names(team.folder) == [f"damaged-{damaged.path.name}", stamp(4).key.name]
    assert team.leader.steps() == [4]
    found = team.commit(5, 3.0)
    assert torch.equal(read(team.leader, found), state(3.0))
    assert names(team.folder) == [stamp(4).key.name, stamp(5).key.name]
