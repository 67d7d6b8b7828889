"""A run told in lines."""

from __future__ import annotations

import itertools
import typing

import pytest
from fake_run import FakeRun, killed_and_hung

from ft_horovod.core.trace import (
    AnyEvent,
    FailureRecovered,
    NewcomerDismissed,
    Promoted,
    Restarted,
    StepFinished,
    WorkerFailed,
    WorkerFinished,
    WorkerStarted,
)
from ft_horovod.status.plain import PlainPrinter, plain_line


def test_every_kind_of_event_has_its_line_or_is_left_out_on_purpose():
    run = killed_and_hung()
    run.join(slot=9)
    for event in run.events:
        line = plain_line(event)
        quiet = isinstance(event, WorkerFinished) or (isinstance(event, WorkerStarted) and not event.late)
        assert (line is None) == quiet, event
        assert line is None or "\n" not in line
    dismissed = plain_line(NewcomerDismissed(time_s=1.0, by="a:1#1", worker="a:1#1", reason="the run is over"))
    assert dismissed is not None
    assert "not needed" in dismissed
    promoted = plain_line(Promoted(time_s=1.0, by="a:1", worker="a:1", stage=2, instead_of="a:0"))
    assert promoted == "a:1 leads stage 2 instead of a:0"
    again = plain_line(Restarted(time_s=1.0, by="launcher", reason="a lost", workers=3))
    assert again == "started again with 3 workers: a lost"
    assert len(typing.get_args(AnyEvent)) == 22  # a new kind of event wants a line, or a reason to have none


def test_a_recovery_is_told_with_its_phases():
    run = FakeRun().started().train(3).strike()
    failure = next(event for event in run.events if isinstance(event, FailureRecovered))
    line = plain_line(failure)
    assert line is not None
    assert line.startswith(f"recovered from kill of n1:3 in {failure.total_s * 1e3:.1f} ms (ms: detect ")
    assert all(phase in line for phase in ("shrink", "replan", "restore", "reinit", "redo"))


def test_a_worker_that_stops_because_all_do_is_no_news():
    failed = WorkerFailed(time_s=1.0, by="n1:0", worker="n1:0", exit_code=75, message="too few")
    assert plain_line(failed) is None
    assert "exit 70" in (
        plain_line(WorkerFailed(time_s=1.0, by="n1:0", worker="n1:0", exit_code=70, message="x")) or ""
    )


@pytest.mark.parametrize("every_s", [0.5, 2.0])
def test_a_step_is_told_now_and_then_and_everything_else_at_once(every_s: float):
    run = killed_and_hung()
    printer = PlainPrinter(every_s=every_s)
    told = [(event, line) for event in run.events if (line := printer.line(event)) is not None]
    steps = [event.time_s for event, _ in told if isinstance(event, StepFinished)]
    assert len(steps) >= 4
    assert all(later - earlier >= every_s for earlier, later in itertools.pairwise(steps))
    others = [event for event in run.events if not isinstance(event, StepFinished) and plain_line(event) is not None]
    assert [event for event, _ in told if not isinstance(event, StepFinished)] == others
    assert told[0][1].startswith("    0.000 s  run kills-on-digits")
