"""Whole runs split over stages under a real mpirun: the scenarios of configs/scenarios, held against the calm run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from real_run import SAME, STEPS, Run, distance

from ft_horovod.core.trace import FailureRecovered, SlowDetected, StepFinished, TrainingStopped, ViewAgreed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Train = Callable[..., Run]
SCENARIOS = Path(__file__).parents[2] / "configs" / "scenarios"
THREE_BY_TWO = ("--stages", "3", "--backups", "1", "--no-respawn")
FIVE_BY_TWO = ("--stages", "5", "--backups", "1", "--no-respawn")


def scenario(name: str) -> tuple[str, str]:
    return "--schedule", str(SCENARIOS / f"{name}.yaml")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Train], Run]:
    """The failure-free run in one piece, made once."""
    made: list[Run] = []

    def make(train: Train) -> Run:
        if not made:
            made.append(train(*SAME, "--workers", "1", name="calm"))
        return made[0]

    return make


def assert_same(run: Run, calm: Run) -> None:
    assert run.code == 0, run.output
    assert run.summary["samples_exact"] is True
    assert run.summary["weights_agree"] is True
    assert [e.step for e in run.events if isinstance(e, StepFinished)] == list(range(STEPS))
    assert distance(run, calm, STEPS) < 1e-5


def layouts(run: Run) -> list[list[list[int]]]:
    """The slots of each stage's members, view after view."""
    views = [event.layout for event in run.events if isinstance(event, ViewAgreed)]
    return [[[member.slot for member in group.members] for group in layout.groups] for layout in views]


def lost(run: Run) -> list[str]:
    """Slots of the members that were lost. A leader that dies right after may have told of the same loss first."""
    return sorted({e.worker.partition(":")[2] for e in run.events if isinstance(e, FailureRecovered)})


@pytest.mark.parametrize("role", ["replica", "standby"])
def test_a_leader_dies_and_its_backup_is_promoted(train: Train, calm: Callable[[Train], Run], role: str) -> None:
    run = train(*SAME, *FIVE_BY_TWO, "--role", role, *scenario("single-leader"))
    assert_same(run, calm(train))
    assert lost(run) == ["2"]
    assert layouts(run)[-1] == [[0, 5], [1, 6], [7], [3, 8], [4, 9]]


def test_several_at_once(train: Train, calm: Callable[[Train], Run]) -> None:
    run = train(*SAME, *FIVE_BY_TWO, *scenario("simultaneous"))
    assert_same(run, calm(train))
    assert lost(run) == ["0", "4", "6"]


def test_one_after_the_other(train: Train, calm: Callable[[Train], Run]) -> None:
    run = train(*SAME, *FIVE_BY_TWO, "--spares", "1", *scenario("cascade"))
    assert_same(run, calm(train))
    assert lost(run) == ["0", "1", "3", "7"]


def test_a_leader_hangs_and_its_slot_comes_back_as_a_backup(train: Train, calm: Callable[[Train], Run]) -> None:
    more = [*SAME]
    more[more.index("--steps") + 1] = "900"  # a newcomer takes seconds to import its libraries
    run = train(*more, "--stages", "2", "--backups", "1", *scenario("rejoin"))
    assert run.code == 0, run.output
    assert run.summary["samples_exact"] is True
    assert run.summary["weights_agree"] is True
    assert [failure["kind"] for failure in run.summary["failures"]] == ["hang"]  # type: ignore[attr-defined]
    assert layouts(run)[0] == [[0, 2], [1, 3]]
    assert layouts(run)[-1] == [[0, 2], [3, 1]]


def test_a_stage_without_backups_goes_on(train: Train, calm: Callable[[Train], Run]) -> None:
    run = train(*SAME, "--stages", "3", "--workers", "8", "--no-respawn", *scenario("all-backups"))
    assert_same(run, calm(train))


def test_a_lost_stage_ends_the_run_with_its_name(train: Train) -> None:
    run = train(*SAME, *THREE_BY_TWO, *scenario("stage-lost"))
    assert run.code == 75
    assert "stage 1: nobody is left who holds its state" in run.output
    assert [e.step for e in run.events if isinstance(e, TrainingStopped)] == [12]
    resumed = train(*SAME, *THREE_BY_TWO, resume=True)
    assert resumed.code == 0, resumed.output


def test_a_slow_member_is_noticed_and_gets_less_to_do(train: Train, calm: Callable[[Train], Run]) -> None:
    run = train(*SAME, "--stages", "2", "--backups", "1", "--no-respawn", "--micro-batch", "3", *scenario("slow"))
    assert_same(run, calm(train))
    slow = [event for event in run.events if isinstance(event, SlowDetected)]
    assert any(event.worker.endswith(":1") and event.factor >= 1.5 for event in slow)
