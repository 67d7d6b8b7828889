"""Whole runs under a real mpirun: what is lost, what is kept, and how they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from real_run import Going, Run, distance

from ft_horovod.core.trace import NewcomerDismissed, RunFinished, StepFinished, ViewAgreed, WorkerLeft, WorkerStarted
from ft_horovod.status.follow import read_trace

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

Train = Callable[..., Run]
TINY = ("--model", "tiny", "--seed", "3")


def schedule(folder: Path, *faults: str) -> str:
    path = folder / "faults.yaml"
    path.write_text("version: 1\nfaults:\n" + "".join(f"  - {fault}\n" for fault in faults))
    return str(path)


def assert_exact(run: Run, steps: int) -> None:
    assert run.code == 0, run.output
    assert run.summary["outcome"] == "finished"
    assert run.summary["steps"] == steps
    assert run.summary["samples_exact"] is True
    assert run.summary["weights_agree"] is True


def failures(run: Run) -> list[tuple[str, str]]:
    found = run.summary["failures"]
    assert isinstance(found, list)
    for failure in found:
        phases = ("detect_s", "shrink_s", "replan_s", "restore_s", "reinit_s", "redo_s")
        assert sum(failure[phase] for phase in phases) == pytest.approx(failure["total_s"], abs=0.005)
    return [(failure["kind"], failure["worker"].partition(":")[2]) for failure in found]


def test_kill_hang_and_kill_change_the_weights_no_more_than_rounding(train: Train, tmp_path: Path) -> None:
    faults = schedule(
        tmp_path,
        "{kind: kill, at: {step: 12}, target: {worker: 2}}",
        "{kind: hang, at: {step: 24}, target: {worker: 1}}",
        "{kind: kill, at: {step: 36}, target: {role: leader}}",
    )
    same = (*TINY, "--norm", "group", "--lr", "0.01", "--steps", "50", "--batch-size", "60")
    calm = train(*same, name="calm")
    hit = train(*same, "--spares", "1", "--no-respawn", "--schedule", faults, name="hit")
    assert_exact(calm, 50)
    assert_exact(hit, 50)
    assert failures(hit) == [("kill", "2"), ("hang", "1"), ("kill", "0")]
    assert distance(calm, hit, 50) < 1e-5


def test_a_worker_leaves_without_a_step_being_done_again_and_another_joins(train: Train, tmp_path: Path) -> None:
    faults = schedule(
        tmp_path,
        "{kind: leave, at: {step: 10}, target: {worker: 1}}",
        "{kind: join, at: {step: 30}}",
    )
    run = train(*TINY, "--workers", "3", "--no-respawn", "--epochs", "80", "--schedule", faults)
    assert_exact(run, 80 * 23)
    assert failures(run) == []
    left = [event for event in run.events if isinstance(event, WorkerLeft)]
    assert [event.worker.partition(":")[2] for event in left] == ["1"]
    steps = [event for event in run.events if isinstance(event, StepFinished)]
    assert [event.step for event in steps] == list(range(80 * 23))
    late = [event for event in run.events if isinstance(event, WorkerStarted) and event.late]
    joined = {str(worker) for event in run.events if isinstance(event, ViewAgreed) for worker in event.layout}
    assert late
    assert {event.worker for event in late} <= joined
    assert not any(isinstance(event, NewcomerDismissed) for event in run.events)


def test_too_few_workers_end_the_run_and_it_resumes(train: Train, tmp_path: Path) -> None:
    faults = schedule(
        tmp_path,
        "{kind: kill, at: {step: 10}, target: {worker: 1}}",
        "{kind: kill, at: {step: 20}, target: {worker: 2}}",
    )
    same = (*TINY, "--norm", "group", "--lr", "0.01", "--steps", "40")
    hit = train(*same, "--workers", "3", "--min-workers", "2", "--no-respawn", "--schedule", faults)
    assert hit.code == 75, hit.output
    assert hit.summary["outcome"] == "quorum_lost"
    assert "--resume" in str(hit.summary["message"])
    resumed = train("--workers", "2", resume=True)
    assert_exact(resumed, 40)
    calm = train(*same, name="calm")
    assert distance(calm, resumed, 40) < 1e-5


def test_all_workers_lost_is_told_and_can_be_resumed(train: Train, tmp_path: Path) -> None:
    faults = schedule(
        tmp_path,
        "{kind: kill, at: {step: 15, within: 0}, target: {worker: 0}}",
        "{kind: kill, at: {step: 15, within: 0}, target: {worker: 1}}",
    )
    hit = train(*TINY, "--workers", "2", "--steps", "30", "--schedule", faults)
    assert hit.code == 75, hit.output
    resumed = train(resume=True)
    assert resumed.code in (0, 75), resumed.output


def test_ctrl_c_ends_all_processes_and_leaves_a_valid_trace(start: Callable[..., Going]) -> None:
    going = start(*TINY, "--workers", "3", "--epochs", "500")
    deadline = time.monotonic() + 120
    while not (going.folder / "trace").exists() or not any(
        isinstance(event, StepFinished) for event in read_trace(going.folder)
    ):
        assert time.monotonic() < deadline, "the run did not begin"
        time.sleep(0.2)
    going.process.send_signal(signal.SIGINT)
    run = going.wait()
    assert run.code == 130, run.output
    assert run.summary["outcome"] == "interrupted"
    last = run.events[-1]
    assert isinstance(last, RunFinished)
    assert "--resume" in last.message


def test_status_sums_up_a_finished_run(train: Train) -> None:
    run = train(*TINY, "--workers", "2", "--steps", "10")
    assert_exact(run, 10)
    command = [sys.executable, "-m", "ft_horovod.cli", "status", str(run.folder), "--plain"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "10 steps" in shown.stdout
