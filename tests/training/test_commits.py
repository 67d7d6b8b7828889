"""Commits of whole trainers, in memory: every member writes its part, and any run goes on from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from crew import Crew
from test_stage_work import config
from test_whole_trainer import STEPS, distance, fault

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.commit.inventory import CommitRow, on_disk
from ft_horovod.core.config import CommitConfig, RunConfig
from ft_horovod.core.schedule import Fault
from ft_horovod.core.trace import CommitFailed, CommitWritten, StepFinished, ViewAgreed

A_STEP = 8e-4  # relative distance between the weights of two steps of this run, at the least


def constant_rate(steps: int = STEPS, **layout: object) -> RunConfig:
    """With commits as often as the disk can, and a rate that does not depend on how many steps there are."""
    made = config(**layout)
    optimizer = msgspec.structs.replace(made.optimizer, schedule="constant")
    return msgspec.structs.replace(
        made, optimizer=optimizer, steps=steps, commit=CommitConfig(policy="memory=off,disk=1", keep=99)
    )


def whole(folder: Path) -> list[CommitRow]:
    return [row for row in on_disk(folder / "commits", 0.0, contents=True) if row.problem is None]


def assert_last_commit_is_the_end(crew: Crew) -> None:
    """The newest commit is what its members hold, bit for bit, momentum too."""
    disk = DiskCommits(crew.folder / "commits", Retention(99))
    for group in crew._layouts[-1].groups:
        for member in group.members:
            acts = crew.finished[str(member)]
            held = acts._work.named(group.stage, acts.progress.costs)
            into = {name: torch.zeros_like(tensor) for name, tensor in held.items()}
            disk.load(disk.found()[0], into)
            assert all(torch.equal(into[name], held[name]) for name in held)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Crew:
    return Crew(constant_rate(workers=1), tmp_path_factory.mktemp("calm")).run()


@pytest.mark.parametrize(
    ("layout", "shards"),
    [
        ({"workers": 4}, (4,)),
        ({"stages": 2, "backups": 1}, (2, 2)),
        ({"stages": 2, "backups": [0, 1], "role": "standby"}, (1, 2)),
    ],
    ids=str,
)
def test_every_member_writes_its_part(tmp_path: Path, layout: dict[str, object], shards: tuple[int, ...]) -> None:
    crew = Crew(constant_rate(**layout), tmp_path).run()
    rows = whole(tmp_path)
    assert {row.shards for row in rows} == {shards}
    assert rows[0].step == STEPS
    assert_last_commit_is_the_end(crew)
    written = [event for event in crew.events if isinstance(event, CommitWritten)]
    assert {event.by for event in written} == {"here:0"}
    assert [event.path for event in reversed(written)] == [row.holder for row in rows]
    assert len(rows) > 1
    for event, row in zip(reversed(written), rows, strict=True):
        files = sum(path.stat().st_size for path in (tmp_path / row.holder).glob("*.safetensors"))
        assert event.size_bytes == files


@pytest.mark.parametrize(
    ("layout", "faults"),
    [
        ({"workers": 4, "spares": 1}, [fault("kill", 3, 0), fault("kill", 6, 2, within=0.5)]),
        ({"workers": 3}, [fault("leave", 4, 0), fault("kill", 8, 1, within=0.9)]),
        ({"stages": 2, "backups": 1, "spares": 1}, [fault("kill", 3, 0, within=0.7), fault("kill", 7, 3)]),
    ],
    ids=str,
)
def test_any_commit_of_a_run_that_lost_workers_is_gone_on_from(
    tmp_path: Path, calm: Crew, layout: dict[str, object], faults: Sequence[Fault]
) -> None:
    assert_last_commit_is_the_end(Crew(constant_rate(STEPS - 2, **layout), tmp_path / "hit", faults).run())
    rows = whole(tmp_path / "hit")
    assert rows[0].step == STEPS - 2
    for number, row in enumerate((rows[0], rows[len(rows) // 2])):
        run = tmp_path / str(number)
        (run / "commits").mkdir(parents=True)
        (tmp_path / "hit" / row.holder).rename(run / row.holder)
        crew = Crew(constant_rate(stages=3), run).run()
        assert min(event.step for event in crew.events if isinstance(event, StepFinished)) == row.step
        assert distance(crew.weights(), calm.weights()) < A_STEP / 8


def test_a_run_that_stops_writes_each_stage_once(tmp_path: Path) -> None:
    made = msgspec.structs.replace(constant_rate(workers=3, min_workers=2), commit=CommitConfig(policy="off"))
    crew = Crew(made, tmp_path, [fault("kill", 4, 0), fault("kill", 6, 1)]).run()
    assert [(row.step, row.shards) for row in whole(tmp_path)] == [(6, (1,))]
    assert [type(event) for event in crew.events if isinstance(event, CommitWritten | CommitFailed)] == [CommitWritten]


def test_a_damaged_commit_is_told_once_and_the_one_before_is_used(tmp_path: Path, calm: Crew) -> None:
    Crew(constant_rate(STEPS - 2, workers=2), tmp_path).run()
    newest, before = whole(tmp_path)[:2]
    file = next((tmp_path / newest.holder).glob("*-of-2.safetensors"))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    (tmp_path / "trace").rename(tmp_path / "trace of before")
    crew = Crew(constant_rate(workers=3), tmp_path).run()
    problems = [
        event.problem for event in crew.events if isinstance(event, CommitFailed) and "skipped" not in event.problem
    ]
    assert problems == [f"{file.parent.name}/{file.name}: damaged: its checksum does not fit"]
    assert next(event.step for event in crew.events if isinstance(event, ViewAgreed)) == before.step
    assert distance(crew.weights(), calm.weights()) < A_STEP / 8
