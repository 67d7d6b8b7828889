"""A trace in, figures out."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import msgspec
import pytest
from fake_run import WEIGHTS, FakeRun, killed_and_hung

from ft_horovod.core.trace import (
    FailureRecovered,
    RunFinished,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    WorkerFinished,
)
from ft_horovod.status.ledger import PHASES
from ft_horovod.status.summary import read_summary, summarize

REQUIRED = {
    "outcome",
    "steps",
    "workers_started",
    "workers_finished",
    "wall_s",
    "useful_s",
    "goodput",
    "samples_exact",
    "final_loss",
    "accuracy",
    "weights_sha256",
    "failures",
}
REQUIRED_OF_A_FAILURE = {"kind", "worker", "step", "total_s", *(f"{phase}_s" for phase in PHASES)}


def test_the_names_in_the_file(tmp_path: Path):
    path = tmp_path / "summary.json"
    summarize(killed_and_hung().events).write_summary(path)
    told = json.loads(path.read_bytes())
    assert set(told) >= REQUIRED
    assert set(told["failures"][0]) >= REQUIRED_OF_A_FAILURE
    assert told["samples_exact"] is True
    assert read_summary(path) == summarize(killed_and_hung().events)


def test_the_figures_of_a_run_with_kills_and_a_hang():
    run = killed_and_hung(workers=4, spares=4)
    summary = summarize(run.events)
    steps = [event for event in run.events if isinstance(event, StepFinished)]
    began, ended = (
        next(e.time_s for e in run.events if isinstance(e, kind)) for kind in (TrainingStarted, TrainingFinished)
    )
    useful_s = sum(step.step_s - step.recovery_s for step in steps)
    assert (summary.outcome, summary.steps, summary.steps_planned) == ("finished", 100, 100)
    assert summary.wall_s == pytest.approx(ended - began)
    assert summary.useful_s == pytest.approx(useful_s)
    assert summary.goodput == pytest.approx(useful_s / (ended - began))
    assert summary.startup_s == pytest.approx(began - run.events[0].time_s)
    assert (summary.final_loss, summary.accuracy, summary.weights_sha256) == (0.0312, 0.9731, WEIGHTS)
    assert (summary.workers_started, summary.workers_finished, summary.workers_lost) == (8, 4, 4)
    assert [failure.kind for failure in summary.failures] == ["kill", "hang", "kill"]
    assert summary.step_median_s == pytest.approx(statistics.median(s.step_s for s in steps if s.recovery_s == 0))


def test_a_lost_spare_counts_as_lost_but_not_as_a_failure():
    summary = summarize(FakeRun().started().train(5).lose_spare().train(5).events)
    assert (summary.workers_lost, summary.failures, summary.recovery_s) == (1, (), 0.0)


def test_the_accounts_add_up_to_the_wall_time():
    summary = summarize(killed_and_hung(workers=6, stages=2).events)
    assert summary.wall_s is not None
    assert summary.other_s is not None
    assert summary.useful_s + summary.recovery_s + summary.other_s == pytest.approx(summary.wall_s)
    assert summary.other_s == pytest.approx(0.5 + 2 * 0.004)  # the evaluation and two commit stalls


def test_the_phases_add_up_to_what_was_lost():
    summary = summarize(killed_and_hung().events)
    for failure in summary.failures:
        assert sum(getattr(failure, f"{phase}_s") for phase in PHASES) == pytest.approx(failure.total_s)
        assert failure.noticed_s <= failure.detect_s
    assert sum(summary.lost_s.values()) == pytest.approx(sum(failure.total_s for failure in summary.failures))


def test_workers_lost_together_cost_once():
    run = FakeRun().started().train(5).strike()
    failure = next(event for event in run.events if isinstance(event, FailureRecovered))
    slower = msgspec.structs.replace(
        failure, worker="n1:2", detect_s=failure.detect_s + 0.01, total_s=failure.total_s + 0.01
    )
    for order in ([failure, slower], [slower, failure]):
        others = [event for event in run.events if event is not failure]
        assert sum(summarize([*others, *order]).lost_s.values()) == pytest.approx(slower.total_s)
    summary = summarize([*run.events, slower])
    assert [failure.worker for failure in summary.failures] == ["n1:3", "n1:2"]
    assert sum(summary.lost_s.values()) == pytest.approx(slower.total_s)
    assert summary.recovery_median_s == pytest.approx(slower.total_s)


def test_what_is_not_known_is_null():
    summary = summarize(FakeRun().started().events)
    unknown = (summary.outcome, summary.final_loss, summary.accuracy, summary.weights_sha256, summary.samples_exact)
    assert unknown == (None,) * 5
    assert (summary.step_median_s, summary.recovery_median_s, summary.weights_agree) == (None, None, None)
    assert summary.goodput is None  # the clock stands at its beginning


def test_an_empty_trace_has_a_summary_too():
    summary = summarize([])
    assert (summary.run, summary.steps, summary.wall_s, summary.goodput, summary.failures) == (
        None,
        None,
        None,
        None,
        (),
    )


def test_an_unfinished_run_lasts_until_its_last_event():
    run = FakeRun().started().train(10).strike(recovered=False)
    run.now_s += 3
    run.ended("failed", "mpirun ended with 1")
    summary = summarize(run.events)
    began = next(event.time_s for event in run.events if isinstance(event, TrainingStarted))
    assert (summary.outcome, summary.message, summary.steps, summary.steps_planned) == (
        "failed",
        "mpirun ended with 1",
        10,
        100,
    )
    assert summary.wall_s == pytest.approx(run.now_s - began)
    assert summary.samples == 640


def test_a_step_told_twice_counts_once_as_told_last():
    run = FakeRun(steps=10).started().train(10)
    last = run.events[-1]
    assert isinstance(last, StepFinished)
    again = msgspec.structs.replace(last, step_s=last.step_s + 0.5, recovery_s=0.5, time_s=last.time_s + 0.5, by="n1:1")
    once, twice = summarize(run.events), summarize([*run.events, again])
    assert twice.steps == 10
    assert twice.samples == 640
    assert twice.useful_s == pytest.approx(once.useful_s)
    assert twice.recovery_s == pytest.approx(0.5)


def test_a_resumed_run_counts_the_steps_it_did_again_once():
    first = FakeRun(steps=60).started().train(40).ended("quorum_lost")
    second = FakeRun(steps=60)
    second.now_s = first.now_s + 50
    second.started(step=30).train(30).evaluate().finish()
    events = [*first.events, *second.events]
    summary = summarize(events)
    steps = {event.step: event for event in events if isinstance(event, StepFinished)}
    assert summary.useful_s == pytest.approx(sum(step.step_s for step in steps.values()))
    assert (summary.steps, summary.outcome, summary.workers_finished) == (60, "finished", 6)
    ended = next(event.time_s for event in events if isinstance(event, TrainingFinished))
    began = next(event.time_s for event in events if isinstance(event, TrainingStarted))
    assert summary.wall_s == pytest.approx(ended - began)
    assert summary.other_s is not None
    assert summary.other_s > 50  # the time between the launches is in the wall time


def test_a_run_whose_resumption_is_still_under_way_has_no_outcome():
    first = FakeRun(steps=60).started().train(40).ended("quorum_lost")
    second = FakeRun(steps=60)
    second.now_s = first.now_s + 50
    assert summarize([*first.events, *second.started(step=30).train(3).events]).outcome is None


def test_members_with_other_weights_are_told_of():
    events = killed_and_hung().events
    assert summarize(events).weights_agree is True
    odd = [
        msgspec.structs.replace(e, weights_sha256="0" * 64)
        if isinstance(e, WorkerFinished) and e.worker == "n1:1"
        else e
        for e in events
    ]
    assert summarize(odd).weights_agree is False


def test_goodput_never_exceeds_one():
    run = FakeRun(steps=5).started()
    began = run.now_s
    run.train(5)
    end = TrainingFinished(
        time_s=began + 0.1, by="n1:0", step=5, final_loss=1.0, weights_sha256=WEIGHTS, samples_exact=True, samples=320
    )
    assert summarize([*run.events, end]).goodput == 1.0


def test_writing_leaves_the_old_file_or_the_new_one(tmp_path: Path):
    path = tmp_path / "summary.json"
    summarize([]).write_summary(path)
    before = path.read_bytes()
    summarize(killed_and_hung().events).write_summary(path)
    assert path.read_bytes() != before
    assert [file.name for file in tmp_path.iterdir()] == ["summary.json"]
    with pytest.raises(FileNotFoundError):
        summarize([]).write_summary(tmp_path / "nowhere" / "summary.json")


def test_the_launcher_s_words_are_taken_as_they_are():
    events = [
        RunStarted(time_s=1.0, by="launcher", run="r", workers=2, spares=0, min_workers=1, model="tiny", data="digits",
                   batch_size=8, launcher="mpirun", version="0"),
        RunFinished(time_s=9.0, by="launcher", outcome="interrupted"),
    ]  # fmt: skip
    summary = summarize(events)
    assert (summary.run, summary.outcome, summary.steps, summary.wall_s) == ("r", "interrupted", None, None)
