"""Trainers over the in-memory membership: whatever is lost, the run ends with the weights of the calm one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from crew import Crew
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ft_horovod.core.config import CommitConfig, DataConfig, LayoutConfig, ModelConfig, OptimizerConfig, RunConfig
from ft_horovod.core.schedule import At, Fault, Target
from ft_horovod.core.trace import CommitWritten, FailureRecovered, StepFinished, TrainingStopped, ViewAgreed

Weights = dict[str, torch.Tensor]

STEPS = 12
SAMPLES = 4 * 30  # three steps an epoch
CONFIG = RunConfig(
    model=ModelConfig(name="tiny", norm="group", device="cpu"),
    data=DataConfig(name="synthetic", samples=30, image_size=32, batch_size=12),
    optimizer=OptimizerConfig(lr=0.01),
    layout=LayoutConfig(workers=4, spares=1, respawn=False),
    commit=CommitConfig(policy="off"),
    steps=STEPS,
)


def with_layout(**layout: object) -> RunConfig:
    return msgspec.structs.replace(CONFIG, layout=msgspec.structs.replace(CONFIG.layout, **layout))


def fault(kind: str, step: int, worker: int | None = None, within: float = 0.0) -> Fault:
    target = None if worker is None else Target(worker=worker)
    return Fault(kind=kind, at=At(step=step, within=within), target=target)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """The weights of the run in which nothing fails."""
    crew = Crew(CONFIG, tmp_path_factory.mktemp("calm")).run()
    assert_finished(crew)
    return crew.weights()


def assert_finished(crew: Crew, samples: int = SAMPLES) -> None:
    endings = {who: end.ending for who, end in crew.ends.items()}
    assert set(endings.values()) <= {"finished", "killed", "left", "dismissed"}, endings
    finishers = crew.finished.values()
    assert finishers
    for acts in finishers:
        assert acts.progress.closed
        assert acts.progress.ledger.exact
        assert acts.progress.ledger.samples == samples


def assert_same(crew: Crew, calm: Weights) -> None:
    assert_finished(crew)
    assert distance(crew.weights(), calm) < 1e-5


def distance(one: Weights, other: Weights) -> float:
    """Between two runs' weights, relative to their size."""
    assert set(one) == set(other)
    apart = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (apart / sum(float(tensor.square().sum()) for tensor in other.values())) ** 0.5


@pytest.mark.parametrize(
    "faults",
    [
        [fault("kill", 3, 1)],
        [fault("kill", 3, 0)],  # the leader
        [fault("kill", 0, 2)],
        [fault("kill", STEPS - 1, 3)],
        [fault("kill", 3, 1), fault("kill", 3, 2)],
        [fault("kill", 2, 0), fault("kill", 3, 1), fault("kill", 4, 2), fault("kill", 5, 3)],
        [fault("leave", 4, 0)],
        [fault("leave", 4, 0), fault("kill", 5, 1)],
    ],
    ids=lambda faults: "+".join(f"{f.kind}{f.target.worker if f.target else ''}@{f.at.step}" for f in faults),
)
def test_losses_change_nothing_but_rounding(tmp_path: Path, calm: Weights, faults: list[Fault]) -> None:
    crew = Crew(CONFIG, tmp_path, faults).run()
    assert_same(crew, calm)
    gone = {f"here:{f.target.worker}" for f in faults if f.target}
    assert {who for who, end in crew.ends.items() if end.ending in ("killed", "left")} == gone
    steps = [event.step for event in crew.events if isinstance(event, StepFinished)]
    assert steps == list(range(STEPS))  # each told once, by whoever led


@pytest.mark.parametrize("processors", [1, 3])
def test_what_is_left_of_a_step_may_be_done_by_few(tmp_path: Path, calm: Weights, processors: int) -> None:
    faults = [fault("kill", 3, 1, within=0.5), fault("kill", 5, 0, within=0.9)]
    assert_same(Crew(CONFIG, tmp_path, faults, processors=processors).run(), calm)


moments = st.lists(
    st.tuples(st.integers(0, STEPS - 1), st.integers(0, 4), st.floats(0.01, 1.0)),
    min_size=1,
    max_size=4,
    unique_by=lambda moment: moment[1],
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moments)
def test_kills_at_any_moment(
    tmp_path_factory: pytest.TempPathFactory, calm: Weights, kills: list[tuple[int, int, float]]
) -> None:
    faults = [fault("kill", step, worker, within) for step, worker, within in kills]
    crew = Crew(CONFIG, tmp_path_factory.mktemp("kills"), faults).run()
    assert_same(crew, calm)


def test_a_newcomer_takes_the_place_of_a_lost_member(tmp_path: Path) -> None:
    config = msgspec.structs.replace(with_layout(spares=0, respawn=True, workers=3), steps=10 * STEPS)
    crew = Crew(config, tmp_path, [fault("kill", 2, 1)]).run()
    assert_finished(crew, 10 * SAMPLES)
    late = crew.ends["here:1#1"]
    assert late.ending == "finished"
    assert late.acts is not None
    assert late.acts.weights_sha256 == crew.finished["here:0"].weights_sha256


def test_a_group_grows_on_request(tmp_path: Path) -> None:
    config = msgspec.structs.replace(with_layout(spares=0, workers=2), steps=10 * STEPS)
    crew = Crew(config, tmp_path, [fault("join", 3)]).run()
    assert_finished(crew, 10 * SAMPLES)
    views = [event.layout for event in crew.events if isinstance(event, ViewAgreed)]
    assert len(views[-1].members) == 3
    assert len({acts.weights_sha256 for acts in crew.finished.values()}) == 1


def test_too_few_are_left_and_the_state_is_safe(tmp_path: Path) -> None:
    config = with_layout(workers=3, spares=0, min_workers=2)
    crew = Crew(config, tmp_path, [fault("kill", 4, 0), fault("kill", 6, 1)]).run()
    assert crew.ends["here:2"].ending.startswith("quorum lost: 1 members are left, at least 2 are needed")
    stopped = [event for event in crew.events if isinstance(event, TrainingStopped)]
    written = [event for event in crew.events if isinstance(event, CommitWritten)]
    assert [event.step for event in stopped] == [6]
    assert [event.step for event in written] == [6]


def test_each_failure_is_told_once_by_the_leader(tmp_path: Path) -> None:
    crew = Crew(CONFIG, tmp_path, [fault("kill", 3, 0), fault("kill", 6, 2)]).run()
    told = [(event.worker, event.kind) for event in crew.events if isinstance(event, FailureRecovered)]
    assert told == [("here:0", "kill"), ("here:2", "kill")]
