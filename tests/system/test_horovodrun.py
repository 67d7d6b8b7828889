"""Whole runs under a real, stock horovodrun: `horovodrun ... python -m ft_horovod.training.worker RUN`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from real_run import Run, workers_of

from ft_horovod.configfile import check_schedule
from ft_horovod.core.config import DataConfig, LayoutConfig, ModelConfig, RunConfig
from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.trace import StepFinished, ViewAgreed, WorkerFinished, WorkerLost
from ft_horovod.runfolder import RunFolder
from ft_horovod.status.summary import summarize
from launch.mpirun import worker_environment

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LIMIT_S = 200.0
STEPS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    """A run folder; nothing that belongs to it is left afterwards."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    yield folder
    for left in workers_of(folder.path):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    for board in Path("/dev/shm").glob(f"ft-horovod-{folder.name}-*"):
        board.unlink()


def horovodrun(folder: RunFolder, layout: LayoutConfig, *faults: str, steps: int = STEPS) -> Run:
    """Train on this machine, as a user would who does without `ft-horovod train`."""
    schedule = folder.path.parent / "faults.yaml"
    schedule.write_text("version: 1\nfaults:" + "".join(f"\n  - {fault}" for fault in faults))
    config = RunConfig(
        model=ModelConfig(name="tiny"),
        data=DataConfig(batch_size=60),
        layout=layout,
        steps=steps,
        seed=3,
        schedule=str(schedule) if faults else None,
    )
    folder.config.write_text(encode_yaml(config))
    folder.faults.write_bytes(msgspec.json.encode(check_schedule(config)))
    processes = layout.workers + layout.spares
    hosts = folder.path.parent / "hosts.sh"
    hosts.write_text(f"#!/bin/sh\necho localhost:{processes}\n")
    hosts.chmod(0o755)
    command = [str(Path(sys.executable).with_name("horovodrun")), "-np", str(processes), "--min-np", "1"]
    command += ["--max-np", str(processes), "--host-discovery-script", str(hosts)]
    command += ["--network-interface", "lo"]  # else horovodrun waits for a second host, to compare networks with
    command += [sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, **worker_environment(processes)},
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Run(folder.path, process.returncode, output)


def test_a_run_without_faults(folder: RunFolder) -> None:
    run = horovodrun(folder, LayoutConfig(workers=2, respawn=False))
    assert run.code == 0, run.output
    assert len([event for event in run.events if isinstance(event, WorkerFinished)]) == 2
    assert summarize(run.events).samples_exact


def test_kill_hang_and_kill_are_survived(folder: RunFolder) -> None:
    run = horovodrun(
        folder,
        LayoutConfig(workers=4, spares=1, respawn=False),
        "{kind: kill, at: {step: 8}, target: {worker: 2}}",
        "{kind: hang, at: {step: 16}, target: {worker: 1}}",
        "{kind: kill, at: {step: 28}, target: {role: leader}}",
    )
    lost = [(event.kind, event.worker) for event in run.events if isinstance(event, WorkerLost)]
    assert lost == [("kill", "localhost:2"), ("hang", "localhost:1"), ("kill", "localhost:0")], run.output
    finished = [event for event in run.events if isinstance(event, WorkerFinished)]
    assert {event.worker for event in finished} == {"localhost:3", "localhost:4"}
    assert len({event.weights_sha256 for event in finished}) == 1
    assert max(event.step for event in run.events if isinstance(event, StepFinished)) == STEPS - 1
    assert summarize(run.events).samples_exact


def test_a_newcomer_takes_the_place_of_a_worker_that_was_killed(folder: RunFolder) -> None:
    fault = "{kind: kill, at: {step: 5}, target: {worker: 1}}"
    run = horovodrun(folder, LayoutConfig(workers=2), fault, steps=2500)
    members = [tuple(map(str, event.layout.members)) for event in run.events if isinstance(event, ViewAgreed)]
    assert members[-1] == ("localhost:0", "localhost:1#1"), run.output
    finished = [event for event in run.events if isinstance(event, WorkerFinished)]
    assert len({event.weights_sha256 for event in finished}) == 1
    assert len(finished) == 2
    assert summarize(run.events).samples_exact
