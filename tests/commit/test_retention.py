"""Which commits stay: the newest few, by number and by age; and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from commit_world import Team, names, stamp

from ft_horovod.commit.folder import Found, Retention
from ft_horovod.commit.manifest import FORMAT, Manifest, ShardFile
from ft_horovod.commit.names import Key

NOW = 1000.0


def whole(step: int, written_at: float = NOW, identity: str = "me", problem: str | None = None) -> Found:
    files = (ShardFile("stage-0.shard-1-of-1.safetensors", 1, 0, 0, ("a",)),)
    manifest = Manifest(FORMAT, step, identity, 0, msgspec.Raw(b"{}"), written_at, (1,), files)
    return Found(Path(f"{step}-{written_at}"), Key(step, "00000000"), manifest, problem)


def unfinished(step: int) -> Found:
    return Found(Path(str(step)), Key(step, "00000000"), None, "missing", unfinished=True)


def dropped(retention: Retention, *found: Found) -> list[tuple[int, float]]:
    return sorted(one.age_order for one in retention.drop(found, "me", NOW))


@pytest.mark.parametrize(
    ("keep", "keep_s", "expected"),
    [
        (1, None, [10, 20, 30]),
        (2, None, [10, 20]),
        (4, None, []),
        (9, None, []),
        (9, 250.0, [10, 20]),
        (9, 0.5, [10, 20, 30]),  # never the newest
        (2, 250.0, [10, 20]),
        (1, 1e6, [10, 20, 30]),
    ],
)
def test_by_number_and_age(keep: int, keep_s: float | None, expected: list[int]) -> None:
    found = [whole(step, NOW - age_s) for step, age_s in ((30, 200), (10, 400), (40, 100), (20, 300))]
    assert [step for step, _ in dropped(Retention(keep, keep_s), *found)] == expected


def test_the_newest_of_a_step_is_the_one_written_last() -> None:
    assert dropped(Retention(1), whole(5, 10.0), whole(5, 20.0)) == [(5, 10.0)]


def test_what_is_useless_and_old_goes() -> None:
    aside = replace(whole(10), key=Key(10, "00000000", set_aside=True))
    damaged = whole(10, problem="cut")
    found = [unfinished(10), unfinished(30), whole(20), aside, damaged, whole(30, problem="cut")]
    assert {id(one) for one in Retention(2).drop(found, "me", NOW)} == {id(found[0]), id(aside), id(damaged)}


def test_nothing_goes_while_nothing_is_whole() -> None:
    assert dropped(Retention(1), unfinished(1), whole(2, problem="cut"), whole(3, identity="another")) == []


def test_other_runs_commits_stay() -> None:
    assert dropped(Retention(1), whole(5), whole(6), whole(1, identity="another"), whole(9, identity="another")) == [
        (5, NOW)
    ]


def test_on_disk(tmp_path: Path) -> None:
    team = Team(tmp_path / "commits", (2,), Retention(2))
    for step in (1, 5, 9):
        team.commit(step)
    (tmp_path / "commits" / "notes").mkdir()
    (tmp_path / "commits" / "step-000000001-00000000.txt").write_text("mine")
    (tmp_path / "commits" / stamp(9).key.name / "notes.txt").write_text("mine")
    for step in (12, 13):
        team.commit(step)
    assert team.leader.steps() == [12, 13]
    kept = [stamp(step).key.name for step in (9, 12, 13)]  # of 9 only what is not ours
    assert names(tmp_path / "commits") == sorted(["notes", "step-000000001-00000000.txt", *kept])
    assert names(tmp_path / "commits" / kept[0]) == ["notes.txt"]


def test_a_link_is_no_commit(tmp_path: Path) -> None:
    elsewhere = Team(tmp_path / "elsewhere").commit(3).path
    team = Team(tmp_path / "commits", retention=Retention(1))
    team.commit(4)
    (team.folder / stamp(3).key.name).symlink_to(elsewhere)
    team.commit(5)
    assert elsewhere.exists()
    assert len(names(elsewhere)) == 2
