"""What the operator sees: the right facts, and nothing that does not fit."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from fake_run import FakeRun, killed_and_hung
from rich.console import Console, RenderableType

from ft_horovod.core.trace import CommitFailed, SlowDetected, TrainingStopped
from ft_horovod.status.final_view import final_view
from ft_horovod.status.run_state import RunState, fold
from ft_horovod.status.summary import summarize
from ft_horovod.status.text import (
    clock,
    duration,
    milliseconds,
    percent,
    short_name,
    size,
    sparkline,
    stacked_bar,
)
from ft_horovod.status.views import live_lines, live_view


def screen(view: RenderableType, width: int) -> str:
    """What a terminal of this width would show."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(view)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    return text


def at(run: FakeRun, width: int = 100, later_s: float = 0.1) -> str:
    return screen(live_view(fold(run.events), run.now_s + later_s, width), width)


@pytest.mark.parametrize("width", [80, 120])
def test_the_facts_of_a_run_in_the_middle(width: int):
    run = FakeRun(workers=4, spares=2, hosts=("n1", "n2")).started().train(30).strike().train(5).commit().train(15)
    text = at(run, width, later_s=2.0)
    for fact in (
        "kills-on-digits",
        "resnet18 on digits",
        "4 workers + 2 spares",
        "51/100",
        "51 %",
        "ETA 0:0",
        "samples/s",
        "36 on disk",
        "3 of 5",
        "★ 0 n1:0",
        "● 4 n2:1",
        "○ 5 n2:2",
        "✗ 3 n2:0 kill@30",
        "4 training",
        "1 spare",
        "1 lost",
        "16 samples each",
        "1 recovered",
        "view 1 (failure) from step 30: 4 members, 1 spare",
    ):
        assert fact in text, fact
    failure = fold(run.events).failures[0]
    row = next(line for line in text.splitlines() if line.split()[:3] == ["31", "n2:0", "kill"])
    numbers = row.split()[3:10]
    phases = [failure.detect_s, failure.shrink_s, failure.replan_s, failure.restore_s, failure.reinit_s, failure.redo_s]
    assert numbers == [milliseconds(seconds) for seconds in (*phases, failure.total_s)]
    assert "█" in row


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("workers", [2, 3, 8, 32, 100])
@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("host", ["n1", "ip-10-0-12-34.eu-central-1.compute.internal"])
def test_nothing_is_wider_than_the_screen(width: int, workers: int, stages: int, host: str):
    hosts = (host, host.replace("n", "m"), "localhost")
    run = FakeRun(workers=max(workers, 2 * stages), spares=2, stages=stages, hosts=hosts)
    run.started(run="a-name-" * 20).train(10).strike().commit().train(2).strike(kind="hang").train(3)
    run.strike(recovered=False)
    state = fold(run.events)
    for line in live_lines(state, run.now_s + 1, width):
        assert line.cell_len <= width
    screen(live_view(state, run.now_s, width), width)
    screen(final_view(state, summarize(run.events), Path("/runs") / ("x" * 200)), width)


@pytest.mark.parametrize("height", [12, 24, 40])
@pytest.mark.parametrize("workers", [2, 32])
def test_nothing_is_higher_than_the_screen(height: int, workers: int):
    stages = min(2, workers // 2)
    run = FakeRun(workers=workers, spares=9, stages=stages, hosts=("node-a", "node-b"), steps=200).started()
    for _ in range(8):
        run.train(4).strike()
    lines = live_lines(fold(run.events), run.now_s, 80, height)
    assert len(lines) <= height
    text = "\n".join(line.plain for line in lines)
    assert "stage 0" in text
    if height >= 24:
        assert "8 recovered" in text
        assert "older not shown" in text or height > 24


def test_each_state_of_a_worker_looks_its_own_way():
    run = FakeRun(workers=6, spares=1).started().train(5).leave(FakeRun(workers=6).layout.members[1]).train(2).strike()
    run._at(run.now_s, SlowDetected, worker="n1:2", factor=2.42)
    run.strike(run.layout.members[-1], kind="hang", recovered=False)
    text = at(run, 120, later_s=0.5)
    for fact in (
        "★ 0",
        "→ 1 leave@5",
        "● 2 2.4x slow",
        "✗ 6 kill@7",
        "◌ 5 silent 500 ms",
        "on n1",
        "▲ recovering, 500 ms",
    ):
        assert fact in text, fact


def test_a_failure_that_is_not_over_is_told_with_its_age():
    run = FakeRun().started().train(5).strike(recovered=False)
    text = at(run, later_s=1.25)
    assert "not over, 1.25 s so far" in text
    assert "1 not over" in text


def test_silence_without_a_known_reason_is_told():
    assert "no step for 7.00 s" in at(FakeRun().started().train(5), later_s=7.0)
    assert "no step" not in at(FakeRun().started().train(5), later_s=1.0)


def test_the_time_left_goes_down_between_steps():
    run = FakeRun(steps=100, step_s=2.0).started().train(20)
    eta_s = fold(run.events).progress.eta_s()
    assert eta_s is not None
    for later_s in (0.0, 1.8):
        assert f"ETA {clock(eta_s - later_s)}" in at(run, later_s=later_s)


def test_before_anything_has_happened():
    assert "waiting for the launcher" in screen(live_view(RunState(), 0.0, 80), 80)
    run = FakeRun().started()
    run.events = run.events[:3]
    text = at(run, 80)
    assert "starting, 2 up" in text
    assert "2 started" in text


def test_the_grid_has_a_row_for_each_stage():
    text = at(FakeRun(workers=8, spares=0, stages=4, hosts=("a", "b")).started().train(1), 80)
    rows = [line.split() for line in text.splitlines() if line.startswith(" stage")]
    assert [row[1] for row in rows] == ["0", "1", "2", "3"]
    assert rows[1][2:] == ["★", "1", "a:1", "●", "5", "b:1"]


def test_a_commit_that_failed_and_a_stop_are_among_the_events():
    run = FakeRun().started().train(5)
    run._at(run.now_s, CommitFailed, step=5, problem="no space left on device")
    run._at(run.now_s, TrainingStopped, step=5, reason="too few")
    text = at(run)
    assert "commit of step 5 FAILED: no space left on device" in text
    assert "■ stopped" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_end_of_a_run(width: int):
    run = killed_and_hung(workers=4, spares=4)
    summary = summarize(run.events)
    text = screen(final_view(fold(run.events), summary, Path("runs/kills")), width)
    assert summary.goodput is not None
    assert summary.recovery_median_s is not None
    worst_s = max(failure.total_s for failure in summary.failures)
    for fact in (
        "✔ finished  100 steps in 11.8 s",
        "97.31 %  after 100 steps",
        "0.0312",
        "6,400, each exactly as planned",
        percent(summary.goodput),
        "8 started, 4 finished",
        f"3 recovered, median {duration(summary.recovery_median_s)}, worst {duration(worst_s)}; 1 spare lost",
        "sha256 3f2a91bc5d00  the same on every member",
        "runs/kills",
        "trace.jsonl, summary.json",
        "step 52: commits/step-",
    ):
        assert fact in text, fact
    assert len([line for line in text.splitlines() if " kill " in line or " hang " in line]) == 3


def test_the_end_of_a_run_that_did_not_finish():
    run = FakeRun().started().train(10).strike(recovered=False).ended("quorum_lost", "nobody is left for stage 0")
    text = screen(final_view(fold(run.events), summarize(run.events)), 80)
    for fact in (
        "■ stopped: too few workers are left",
        "10 of 100 steps",
        "nobody is left for stage 0",
        "1 not recovered",
    ):
        assert fact in text, fact
    long = "see /runs/a-name/logs" + "".join(f"\n  line {i} " + "word " * 30 for i in range(3)) + "/x" * 90
    run = FakeRun().started().train(10).ended("failed", long)
    text = screen(final_view(fold(run.events), summarize(run.events)), 80)
    assert "".join(text.split()).count("word") == 90  # nothing of the reason is cut off
    assert "".join(text.split()).count("/x") == 90
    assert "failed: see /runs/a-name/logs | line 0" in at(run, 80)
    cut = FakeRun().started().train(10)
    assert "unfinished" in screen(final_view(fold(cut.events), summarize(cut.events)), 80)


def test_a_bar_is_true_to_an_eighth_of_a_cell():
    bar = stacked_bar([(1.0, "red"), (1.0, "blue")], 3)
    assert bar.plain == "█▌█"
    assert [str(span.style) for span in bar.spans] == ["red", "red on blue", "blue"]
    assert stacked_bar([(0.0, "red")], 4).plain == "    "
    for parts in ([(1e-9, "red"), (5.0, "blue"), (1e-9, "green")], [(1.0, c) for c in ("red", "blue", "green")] * 7):
        for width in (1, 5, 40):
            assert stacked_bar(parts, width).cell_len == width


def test_a_sparkline_is_drawn_to_scale():
    assert sparkline([0.0, 7.0], 10) == "▁█"
    assert sparkline([3.0, 3.0], 10) == "▁▁"
    assert sparkline(list(range(80)), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([], 8) == sparkline([1.0], 0) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0082, "8.2 ms"), (0.0999, "99.9 ms"), (0.65, "650 ms"), (0.9996, "1.00 s"), (9.999, "10.0 s"), (99.96, "1:40")],
)
def test_durations(seconds: float, words: str):
    assert duration(seconds) == words


def test_numbers():
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
    assert [milliseconds(s) for s in (0.0003, 0.0646, 1.304)] == ["0.3", "64.6", "1,304"]
    assert [size(n) for n in (980, 89_400_000, 1_400_000_000)] == ["980 B", "89.4 MB", "1.4 GB"]
    assert [percent(x) for x in (1.0, 0.99999, 0.5)] == ["100 %", "99.9 %", "50.0 %"]
    assert [short_name(n) for n in ("a.b.c:3#1", "10.0.0.1:2", "n1:0")] == ["a:3#1", "10.0.0.1:2", "n1:0"]
