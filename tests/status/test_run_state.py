"""Events in, state out."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from fake_run import FakeRun, killed_and_hung
from hypothesis import given, settings
from hypothesis import strategies as st

from ft_horovod.core.identity import Role, WorkerId
from ft_horovod.core.trace import (
    FailureRecovered,
    HangDetected,
    SlowDetected,
    StepFinished,
    TrainingStopped,
    ViewAgreed,
    WorkerFailed,
    WorkerStarted,
)
from ft_horovod.status.crew import WorkerState
from ft_horovod.status.progress import History, Progress
from ft_horovod.status.run_state import RunState, fold
from ft_horovod.status.summary import summarize
from ft_horovod.status.views import live_lines


def states(state: RunState) -> dict[str, str]:
    return {worker.name: worker.state.value for worker in state.crew.in_order()}


def test_a_run_that_has_just_begun():
    state = fold(FakeRun(workers=3, spares=1).started().events)
    assert states(state) == {"n1:0": "training", "n1:1": "training", "n1:2": "training", "n1:3": "spare"}
    assert [worker.role for worker in state.crew.in_order()] == [Role.LEADER, Role.BACKUP, Role.BACKUP, Role.SPARE]
    assert [worker.number for worker in state.crew.in_order()] == [0, 1, 2, 3]
    assert (state.progress.step, state.progress.steps, state.crew.epoch) == (0, 100, 0)
    assert (state.commit, state.evaluation, state.finished, state.outcome) == (None, None, None, None)


def test_workers_that_came_before_the_first_view_are_only_started():
    events = [e for e in FakeRun().started().events if not isinstance(e, ViewAgreed)]
    assert set(states(fold(events)).values()) == {"started"}


@pytest.mark.parametrize(("workers", "stages"), [(4, 1), (3, 1), (7, 3)])
def test_the_shares_of_each_stage_add_up_to_the_batch(workers: int, stages: int):
    crew = fold(FakeRun(workers=workers, stages=stages).started().events).crew
    for stage in range(stages):
        assert sum(worker.samples for worker in crew.workers.values() if worker.stage == stage) == 64


def test_a_killed_worker_is_pending_until_the_recovery_is_told():
    run = FakeRun().started().train(5).strike()
    cut = next(i for i, event in enumerate(run.events) if isinstance(event, FailureRecovered))
    during, after = fold(run.events[:cut]), fold(run.events[: cut + 1])
    assert [(p.worker, p.kind, p.step) for p in during.pending] == [("n1:3", "kill", 5)]
    assert states(during)["n1:3"] == "lost"
    assert after.pending == ()
    assert [(f.worker, f.kind) for f in after.failures] == [("n1:3", "kill")]
    assert after.crew.workers["n1:4"].state is WorkerState.TRAINING  # the spare has come in
    assert (after.crew.workers["n1:3"].fate, after.crew.workers["n1:3"].fate_step) == ("kill", 5)


def test_a_lost_leader_is_followed_by_its_backup():
    run = FakeRun(spares=0).started().train(3)
    state = fold(run.strike(run.layout.members[0]).events)
    assert [
        w.name for w in state.crew.workers.values() if w.role is Role.LEADER and w.state is WorkerState.TRAINING
    ] == ["n1:1"]


def test_a_hang_is_seen_detected_and_recovered():
    run = FakeRun().started().train(5).strike(kind="hang")
    by_kind = {type(event): i for i, event in enumerate(run.events)}
    hung = fold(run.events[: by_kind[HangDetected]])
    assert states(hung)["n1:3"] == "hung"
    accused = fold(run.events[: by_kind[HangDetected] + 1])
    assert states(accused)["n1:3"] == "lost"
    assert accused.pending[0].silent_s == pytest.approx(1.002)
    assert accused.pending[0].since_s == hung.pending[0].since_s  # counted from the fault, not from its discovery
    assert fold(run.events).failures[0].kind == "hang"


def test_a_worker_that_hangs_still_hangs_in_the_next_view():
    run = FakeRun().started().train(5).strike(kind="hang", recovered=False)
    assert states(fold(run.join(slot=9).events))["n1:3"] == "hung"


def test_a_hang_nobody_injected_counts_from_the_last_sign_of_life():
    run = FakeRun().started().train(5)
    run._at(run.now_s, HangDetected, worker="n1:2", silent_s=1.5, limit_s=1.0, phase="forward")
    assert fold(run.events).pending[0].since_s == pytest.approx(run.now_s - 1.5)


def test_a_hang_that_ends_by_itself_is_forgotten():
    run = FakeRun().started().train(5)
    run.strike(kind="hang", recovered=False)
    run.events[-1] = msgspec.structs.replace(run.events[-1], duration_s=0.5)
    assert states(fold(run.events))["n1:3"] == "hung"
    run.now_s += 0.6
    state = fold(run.train(1).events)
    assert states(state)["n1:3"] == "training"
    assert state.pending == ()


def test_a_lost_spare_is_over_at_once():
    state = fold(FakeRun().started().train(3).lose_spare().events)
    assert states(state)["n1:4"] == "lost"
    assert state.pending == ()
    assert state.failures == ()


def test_a_worker_that_left_is_not_lost():
    run = FakeRun().started().train(3)
    assert states(fold(run.leave(run.layout.members[1]).events))["n1:1"] == "left"


def test_a_newcomer_is_a_spare_when_nobody_is_missing():
    state = fold(FakeRun().started().train(3).join(slot=7).events)
    assert states(state)["n1:7#1"] == "spare"
    assert state.crew.workers["n1:7#1"].number is None
    assert [worker.name for worker in state.crew.in_order()][-1] == "n1:7#1"


def test_a_slow_worker_is_slow_until_it_is_well_again():
    run = FakeRun().started().train(3)
    run._at(run.now_s, SlowDetected, worker="n1:2", factor=2.4)
    assert fold(run.events).crew.workers["n1:2"].slow_factor == 2.4
    run.now_s += 40
    assert fold(run.train(1).events).crew.workers["n1:2"].slow_factor == 2.4
    run._at(run.now_s, SlowDetected, worker="n1:2", factor=1.0)
    assert fold(run.events).crew.workers["n1:2"].slow_factor is None


def test_a_worker_that_fails_by_itself_says_with_what():
    run = FakeRun().started().train(3)
    run._at(run.now_s, WorkerFailed, by="n1:2", worker="n1:2", exit_code=70, message="KeyError: 'x'")
    worker = fold(run.events).crew.workers["n1:2"]
    assert (worker.state, worker.fate) == (WorkerState.LOST, "exit 70")


def test_a_recovery_that_nobody_tells_of_does_not_stay_open_for_good():
    run = FakeRun().started().train(5).strike()
    told = [event for event in run.events if not isinstance(event, FailureRecovered)]
    assert len(fold(told).pending) == 1
    later = run.train(3).events[len(told) + 1 :]
    assert fold([*told, *later]).pending == ()


def test_a_resumed_run_begins_with_new_workers_and_keeps_what_failed():
    run = FakeRun(steps=60).started().train(30).strike().train(2)
    run._at(run.now_s, TrainingStopped, step=run.step, reason="stage 0: nobody is left who holds its state")
    run.ended("quorum_lost")
    stopped = fold(run.events)
    assert (stopped.stopped is not None, stopped.outcome is not None) == (True, True)
    again = FakeRun(workers=2, spares=0, steps=60)
    again.now_s = run.now_s + 100
    state = fold([*run.events, *again.started(step=20).train(5).events])
    assert states(state) == {"n1:0": "training", "n1:1": "training"}
    assert (state.progress.step, state.stopped, state.outcome, state.pending) == (25, None, None, ())
    assert len(state.failures) == 1


def test_a_new_process_with_the_name_of_a_lost_one_is_a_new_worker():
    run = FakeRun().started().train(3).strike()
    at = {"by": "n1:3", "worker": "n1:3", "number": 3, "host": "n1", "pid": 9999}
    run._at(run.now_s, WorkerStarted, **at)
    worker = fold(run.events).crew.workers["n1:3"]
    assert (worker.state, worker.pid, worker.fate) == (WorkerState.STARTED, 9999, "")


def test_the_end_of_a_run():
    state = fold(killed_and_hung().events)
    assert state.outcome is not None
    assert state.outcome.outcome == "finished"
    assert state.crew.count(WorkerState.FINISHED) == len(killed_and_hung().layout.workers)
    assert (state.progress.step, state.progress.data_epoch, state.progress.data_epochs) == (100, 4, 5)
    assert state.evaluation is not None
    assert state.evaluation.accuracy == pytest.approx(0.9731)


def test_throughput_and_eta_follow_the_last_steps():
    progress = Progress(steps=100)
    for step in range(60):
        step_s = 1.0 if step < 40 else 0.1
        at = {"time_s": 1000.0 + step, "by": "n1:0", "epoch": 0, "step": step, "step_s": step_s}
        progress.apply(StepFinished(**at, loss=1.0, samples=64, lr=0.1))
    assert progress.samples_per_s == pytest.approx(640)
    assert progress.eta_s() == pytest.approx(40)  # a step a second by the times of the events


def test_a_history_keeps_its_size_and_its_ends():
    history = History(capacity=16)
    for i in range(1000):
        history.add(float(i))
    assert len(history.values) < 16
    assert history.values == sorted(history.values)
    assert history.values[0] < 100
    assert history.values[-1] > 850
    history.add(float("nan"))
    assert all(math.isfinite(value) for value in history.values)


@given(st.randoms(use_true_random=False), st.floats(0.3, 1.0))
@settings(max_examples=60, deadline=None)
def test_no_loss_and_no_disorder_of_events_breaks_the_fold_or_the_views(rng: random.Random, kept: float):
    run = FakeRun(workers=5, spares=2, stages=2, steps=40).started().train(8).strike().train(2).commit()
    run.strike(kind="hang").train(3).join(slot=9).leave(WorkerId("n1", 1)).train(3).strike(recovered=False)
    events = [event for event in run.events if rng.random() < kept]
    for _ in range(5):
        i = rng.randrange(max(1, len(events) - 1))
        events[i : i + 2] = reversed(events[i : i + 2])
    state = fold(events)
    assert all(line.cell_len <= 80 for line in live_lines(state, run.now_s + 1, 80, 24))
    summarize(events)


def test_events_told_twice_change_nothing_that_counts():
    run = killed_and_hung()
    twice = [event for event in run.events for _ in range(2)]
    once, doubled = summarize(run.events), summarize(twice)
    assert msgspec.structs.replace(doubled, commit_stall_s=once.commit_stall_s) == once
