"""Whole runs split over stages, in memory: the same weights as in one piece, whoever is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from crew import Crew
from test_whole_trainer import SAMPLES, STEPS, distance, fault

from ft_horovod.commit.disk import DiskCommits
from ft_horovod.commit.folder import Retention
from ft_horovod.core.config import (
    CommitConfig,
    DataConfig,
    LayoutConfig,
    ModelConfig,
    ModelName,
    OptimizerConfig,
    RunConfig,
)
from ft_horovod.core.schedule import Fault
from ft_horovod.core.trace import Evaluated, StepFinished, TrainingStopped, ViewAgreed

Weights = dict[str, torch.Tensor]


def config(*, micro_batch: int | None = 3, model: ModelName = "tiny", **layout: object) -> RunConfig:
    return RunConfig(
        model=ModelConfig(name=model, norm="group", device="cpu"),
        data=DataConfig(name="synthetic", samples=30, image_size=32, batch_size=12, micro_batch=micro_batch),
        optimizer=OptimizerConfig(lr=0.01),
        layout=msgspec.convert({"respawn": False, **layout}, LayoutConfig),
        commit=CommitConfig(policy="off"),
        steps=STEPS,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Crew:
    """The run in one piece."""
    return Crew(config(workers=1), tmp_path_factory.mktemp("whole")).run()


def assert_same(crew: Crew, whole: Crew) -> None:
    endings = {who: end.ending for who, end in crew.ends.items()}
    assert set(endings.values()) <= {"finished", "killed", "left"}, endings
    for acts in crew.finished.values():
        assert acts.progress.ledger.exact
        assert acts.progress.ledger.samples == SAMPLES
    assert distance(crew.weights(), whole.weights()) < 1e-5
    steps = [event for event in crew.events if isinstance(event, StepFinished)]
    assert [event.step for event in steps] == list(range(STEPS))
    expected = [event.loss for event in whole.events if isinstance(event, StepFinished)]
    assert [event.loss for event in steps] == pytest.approx(expected, rel=1e-4)
    accuracies = [[e.accuracy for e in one.events if isinstance(e, Evaluated)] for one in (crew, whole)]
    assert accuracies[0] == accuracies[1]


@pytest.mark.parametrize(
    ("layout", "micro_batch"),
    [
        ({"stages": 5}, 3),
        ({"stages": 5}, None),
        ({"stages": 2, "workers": 3}, 3),
        ({"stages": 3, "backups": 1}, 2),
        ({"stages": 3, "backups": [0, 2, 1]}, 1),
        ({"stages": 2, "backups": 1, "role": "standby"}, 3),
        ({"stages": 2, "backups": [0, 2], "role": "standby"}, 12),
    ],
    ids=str,
)
def test_a_split_model_learns_the_same(
    tmp_path: Path, whole: Crew, layout: dict[str, object], micro_batch: int | None
) -> None:
    assert_same(Crew(config(micro_batch=micro_batch, **layout), tmp_path).run(), whole)


TWO_EACH = {"stages": 3, "backups": 1, "spares": 1}


@pytest.mark.parametrize("role", ["replica", "standby"])
@pytest.mark.parametrize(
    "faults",
    [
        [fault("kill", 3, 0)],  # leader of stage 0
        [fault("kill", 3, 2)],  # leader of the last stage
        [fault("kill", 3, 4)],  # a backup
        [fault("kill", 3, 0), fault("kill", 3, 1), fault("kill", 3, 2)],  # all leaders at once
        [fault("kill", 3, 0), fault("kill", 3, 4)],  # of two stages
        [fault("kill", 3, 1), fault("kill", 5, 4)],  # a stage filled up by the spare, struck again
        [fault("leave", 3, 0), fault("kill", 6, 3, within=0.5)],
        [fault("kill", 2, 0, within=0.7), fault("kill", 2, 4, within=0.9), fault("kill", 7, 5, within=0.3)],
    ],
    ids=lambda faults: "+".join(f"{f.kind}{f.target.worker if f.target else ''}@{f.at.step}" for f in faults),
)
def test_losses_change_nothing_but_rounding(tmp_path: Path, whole: Crew, role: str, faults: list[Fault]) -> None:
    crew = Crew(config(**TWO_EACH, role=role), tmp_path, faults).run()
    assert_same(crew, whole)


def test_a_stage_without_anybody_stops_the_run_with_its_name(tmp_path: Path) -> None:
    crew = Crew(config(stages=3, backups=[0, 0, 1]), tmp_path, [fault("kill", 3, 1)]).run()
    endings = [end.ending for who, end in crew.ends.items() if who != "here:1"]
    assert all(ending.startswith("quorum lost: stage 1: nobody is left who holds its state") for ending in endings)
    stopped = [event.reason for event in crew.events if isinstance(event, TrainingStopped)]
    assert len(stopped) == 1
    assert "stage 1" in stopped[0]


def test_a_group_that_misses_two_gets_one_of_another(tmp_path: Path, whole: Crew) -> None:
    crew = Crew(config(stages=2, backups=2), tmp_path, [fault("kill", 3, 1), fault("kill", 4, 3)]).run()
    assert_same(crew, whole)
    views = [event.layout for event in crew.events if isinstance(event, ViewAgreed)]
    assert [len(group.members) for group in views[-1].groups] == [2, 2]


def test_a_run_is_resumed_with_another_cut(tmp_path: Path, whole: Crew) -> None:
    first = msgspec.structs.replace(config(stages=3, backups=1), steps=STEPS // 2)
    schedule = msgspec.structs.replace(first.optimizer, schedule="constant")
    first = msgspec.structs.replace(first, optimizer=schedule)
    Crew(first, tmp_path).run()
    assert DiskCommits(tmp_path / "commits", Retention(2)).steps() == [STEPS // 2]
    calm = Crew(msgspec.structs.replace(config(workers=1), optimizer=schedule), tmp_path / "calm").run()
    for number, layout in enumerate(({"stages": 2}, {"workers": 2}, {"stages": 5})):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "commits", folder / "commits")
        crew = Crew(msgspec.structs.replace(config(**layout), optimizer=schedule), folder).run()
        assert min(event.step for event in crew.events if isinstance(event, StepFinished)) == STEPS // 2
        assert distance(crew.weights(), calm.weights()) < 1e-5
