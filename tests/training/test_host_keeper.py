"""Whole trainers whose state is kept in host memory: a run that stopped goes on from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from crew import Crew
from test_commits import constant_rate
from test_whole_trainer import assert_finished, distance, fault

from ft_horovod.commit.host_files import SHM
from ft_horovod.commit.host_memory_folder import find, remove
from ft_horovod.commit.inventory import in_host_memory
from ft_horovod.core.config import CommitConfig, RunConfig
from ft_horovod.core.trace import TrainingStarted

IN_MEMORY = CommitConfig(policy="memory=1,disk=off")


def kept(folder: Path) -> str:
    return f"{folder.name}-{folder.stat().st_ino}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    remove(SHM, kept(tmp_path))


def in_memory(**layout: object) -> RunConfig:
    return msgspec.structs.replace(constant_rate(**layout), commit=IN_MEMORY)


@pytest.mark.parametrize(
    "layout", [{"workers": 4}, {"stages": 2, "backups": 1}, {"stages": 3, "backups": [1, 0, 2], "role": "standby"}]
)
def test_a_run_goes_on_from_memory_when_all_are_killed(folder: Path, layout: dict[str, object]) -> None:
    calm = Crew(constant_rate(**layout), folder / "calm").run()
    made = in_memory(**layout)
    Crew(made, folder, [fault("kill", 7, worker) for worker in range(made.layout.workers)]).run()
    rows = in_host_memory(kept(folder), 0.0, contents=True)
    newest = next(row for row in rows if row.problem is None)
    assert newest.step in (6, 7)  # the copy of step 7 may have been under way
    shutil.rmtree(folder / "commits", ignore_errors=True)
    again = Crew(made, folder).run()
    assert_finished(again)
    assert [event.step for event in again.events if isinstance(event, TrainingStarted)][-1] == newest.step
    assert distance(again.weights(), calm.weights()) < 1e-5
    assert find(SHM, kept(folder), "here") == []  # it has finished


def test_a_newer_commit_on_disk_comes_first(folder: Path) -> None:
    made = in_memory(workers=3, min_workers=2)
    Crew(made, folder, [fault("kill", 4, 0), fault("kill", 6, 1)]).run()  # too few: the last one writes to disk
    memory = max(row.step for row in in_host_memory(kept(folder), 0.0, contents=True) if row.problem is None)
    again = Crew(made, folder).run()
    assert_finished(again)
    begun = [event.step for event in again.events if isinstance(event, TrainingStarted)][-1]
    assert begun == max(6, memory)
