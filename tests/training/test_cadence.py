"""When a tier of commits is due."""

import pytest

from ft_horovod.core.commit_policy import parse_policy
from ft_horovod.training.cadence import Cadence

STEP_S, MTBF_S = 0.1, 1e6


def steps_due(text: str, tier: str, stall_s: float | None, until: int = 40) -> list[int]:
    """Steps at which a commit is due when each is begun at once and costs `stall_s`."""
    cadence = Cadence(parse_policy(text), tier, MTBF_S)  # type: ignore[arg-type]
    due = []
    for step in range(until):
        if cadence.due(step, STEP_S):
            due.append(step)
            cadence.begun(step)
            if stall_s is not None:
                cadence.measured(stall_s, stall_s)
    return due


def test_off_is_never_due() -> None:
    assert steps_due("off", "memory", 0.0) == steps_due("off", "disk", 0.0) == []


def test_as_many_steps_as_told() -> None:
    assert steps_due("memory=1", "memory", 1e-5) == list(range(40))
    assert steps_due("disk=7", "disk", 1e-5) == list(range(0, 40, 7))


def test_a_commit_that_takes_longer_than_its_interval_waits_for_itself() -> None:
    assert steps_due("memory=1", "memory", 3 * STEP_S) == list(range(0, 40, 3))


def test_auto_copies_to_memory_as_often_as_that_costs_a_thousandth() -> None:
    assert steps_due("auto", "memory", STEP_S / 2000) == list(range(40))
    assert steps_due("auto", "memory", STEP_S / 100) == list(range(0, 40, 10))


@pytest.mark.parametrize("text", ["auto", "disk=1h"])
def test_nothing_is_due_before_a_step_was_timed(text: str) -> None:
    assert not Cadence(parse_policy(text), "disk", MTBF_S).due(0, 0.0)


def test_time_is_counted_from_the_last_commit() -> None:
    cadence = Cadence(parse_policy("disk=1h"), "disk", MTBF_S)
    assert not cadence.due(100, STEP_S)  # the hour since the start has not passed
    first = Cadence(parse_policy("auto"), "disk", MTBF_S)
    assert first.due(1, STEP_S)  # to find out what one costs
    first.begun(1)
    first.measured(10.0, 20.0)
    assert not first.due(2, STEP_S)
