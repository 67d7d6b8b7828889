"""The launcher is killed in the middle of training: a new one goes on from host memory, or a user does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from real_run import SAME, STEPS, Going, Run, distance

from ft_horovod.commit.inventory import in_host_memory
from ft_horovod.core.trace import Restarted, StepFinished, TrainingStarted
from ft_horovod.runfolder import RunFolder
from ft_horovod.status.follow import read_trace

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DRAG = "version: 1\nfaults:\n  - {kind: slow, at: {step: 9, within: 0}, target: {worker: 0}, factor: 40}\n"
MEMORY = ("--commit", "memory=1,disk=off", "--no-respawn")


def finished(run: Going) -> int:
    """Steps finished so far."""
    return max((event.step + 1 for event in read_trace(run.folder) if isinstance(event, StepFinished)), default=0)


def mpirun_of(run: Going) -> psutil.Process:
    return next(child for child in psutil.Process(run.process.pid).children() if "run" in child.name())


def kill_when_at(run: Going, steps: int) -> None:
    """Kill mpirun, at once and for good, when so many steps are finished."""
    give_up = time.monotonic() + 120
    while finished(run) < steps:
        assert time.monotonic() < give_up, "training did not begin"
        assert run.process.poll() is None, run.wait().output
        time.sleep(0.02)
    mpirun_of(run).send_signal(signal.SIGKILL)


@pytest.mark.parametrize("layout", [("--workers", "3"), ("--stages", "2", "--backups", "1")])
def test_a_new_mpirun_goes_on_from_host_memory(
    start: Callable[..., Going], tmp_path: Path, layout: tuple[str, ...]
) -> None:
    drag = tmp_path / "drag.yaml"
    drag.write_text(DRAG)
    calm = start(*SAME, "--workers", "1", name="calm").wait()
    run = start(*SAME, *layout, *MEMORY, "--schedule", str(drag), name="hit")
    kill_when_at(run, 10)
    ended = run.wait()
    assert ended.code == 0, ended.output
    assert ended.summary["samples_exact"] is True
    assert ended.summary["weights_agree"] is True
    assert [event.reason for event in ended.events if isinstance(event, Restarted)] == ["mpirun ended by signal 9"]
    assert steps_lost(ended) <= 1
    assert distance(ended, calm, STEPS) < 1e-5
    assert in_host_memory(RunFolder(run.folder).name, 0.0, contents=False) == []


def steps_lost(run: Run) -> int:
    """Finished steps that were done again after the restart."""
    events = run.events
    restarted = next(place for place, event in enumerate(events) if isinstance(event, Restarted))
    last = max(event.step for event in events[:restarted] if isinstance(event, StepFinished))
    again = next(event.step for event in events[restarted:] if isinstance(event, TrainingStarted))
    return last + 1 - again


def test_everything_is_killed_and_a_user_resumes_from_host_memory(start: Callable[..., Going], tmp_path: Path) -> None:
    drag = tmp_path / "drag.yaml"
    drag.write_text(DRAG)
    run = start(*SAME, "--workers", "3", *MEMORY, "--schedule", str(drag), name="hit")
    give_up = time.monotonic() + 120
    while finished(run) < 10:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    whole = psutil.Process(run.process.pid).children(recursive=True)
    os.kill(run.process.pid, signal.SIGKILL)
    for process in whole:
        process.kill()
    run.process.communicate(timeout=30)
    psutil.wait_procs(whole, timeout=30)
    held = in_host_memory(RunFolder(run.folder).name, time.time(), contents=True)
    assert held[0].problem is None
    resumed = start(name="hit", resume=True).wait()
    assert resumed.code == 0, resumed.output
    assert resumed.summary["samples_exact"] is True
    begun = [event.step for event in resumed.events if isinstance(event, TrainingStarted)]
    assert begun[-1] == held[0].step
    assert held[0].step >= 10 - 1
