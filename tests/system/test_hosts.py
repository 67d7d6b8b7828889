"""Whole hosts are lost in the middle of training: cut off the network, or crashed. Network namespaces are the hosts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hosts import Hosts, hosts_up, why_not
from real_run import Going, Run, distance

from ft_horovod.core.trace import CommitWritten, Restarted, StepFinished, ViewAgreed
from ft_horovod.status.follow import read_trace

Start = Callable[..., Going]

_REASON = why_not()
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(300),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]

STEPS = 24
COUNT = 3
DRAG = "version: 1\nfaults:\n  - {kind: slow, at: {step: 6, within: 0}, target: {worker: 0}, factor: 60}\n"
SETTINGS = ("--model", "tiny", "--data", "digits", "--steps", str(STEPS), "--batch-size", "60", "--seed", "1")


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with hosts_up(COUNT, tmp_path) as up:
        yield up


def settings(folder: Path, hosts: Hosts, layout: str) -> str:
    """A configuration of two workers on each host, whose steps become slow enough to strike in the middle of one."""
    faults = folder / "drag.yaml"
    faults.write_text(DRAG)
    where = ",".join(f"{hosts.address(place)}:2" for place in range(COUNT))
    path = folder / "run.yaml"
    path.write_text(
        f"model: {{norm: group}}\noptimizer: {{lr: 0.01}}\nlayout: {layout}\nschedule: {faults}\n"
        f"launcher: {{hosts: '{where}', network: {hosts.network}, agent: {hosts.agent}}}\n"
    )
    return str(path)


def in_the_middle(run: Going) -> None:
    """Wait until the slow steps have begun."""
    give_up = time.monotonic() + 120
    while not any(isinstance(event, StepFinished) and event.step >= 5 for event in read_trace(run.folder)):
        assert time.monotonic() < give_up, "training did not begin"
        assert run.process.poll() is None, run.wait().output
        time.sleep(0.05)


@pytest.mark.parametrize("layout", ["{workers: 6}", "{stages: 2, backups: 2}"])
@pytest.mark.parametrize("strike", [Hosts.unplug, Hosts.crash])
def test_the_run_goes_on_where_most_are(
    start: Start, tmp_path: Path, hosts: Hosts, layout: str, strike: Callable[[Hosts, int], None]
) -> None:
    calm = start(*SETTINGS, "--workers", "1", settings_file(tmp_path), name="calm").wait()
    going = start(*SETTINGS, settings(tmp_path, hosts, layout), "--no-respawn", name="hit")
    in_the_middle(going)
    strike(hosts, COUNT - 1)
    struck_at = time.time()
    run = going.wait()
    assert run.code == 0, run.output
    assert hosts.pids(COUNT - 1) == []  # the side that is cut off has ended itself
    assert run.summary["samples_exact"] is True
    assert run.summary["weights_agree"] is True
    assert [event.reason for event in run.events if isinstance(event, Restarted)] == [
        f"{hosts.address(COUNT - 1)} lost"
    ]
    assert distance(run, calm, STEPS) < 1e-5
    cut_off = hosts.names[COUNT - 1]
    assert not any(e.by.startswith(cut_off) for e in commits_since(run, struck_at))
    last = [event.layout for event in run.events if isinstance(event, ViewAgreed)][-1]
    assert {member.host for member in last.members} == set(hosts.names[: COUNT - 1])


def settings_file(folder: Path) -> str:
    """What the calm run shares with those on hosts."""
    path = folder / "calm.yaml"
    path.write_text("model: {norm: group}\noptimizer: {lr: 0.01}\n")
    return str(path)


def commits_since(run: Run, time_s: float) -> list[CommitWritten]:
    return [event for event in run.events if isinstance(event, CommitWritten) and event.time_s > time_s]
