"""The hang watch's judgement, row by row; its deeds are in the system tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from ft_horovod.core.config import WatchConfig
from ft_horovod.core.errors import ConfigError
from ft_horovod.membership.board import ROWS, Board, Phase, Pulse, Row, born_ticks, lives, starved_s
from ft_horovod.membership.watch import Observation, Verdict, Watch, judge, limit_s

CONFIG = WatchConfig(floor_s=1.0, step_factor=3.0)
ROW = Row(5, 100, 7, 0, 9, 9, Phase.COMPUTE, 1.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("phase", "steps_done", "gap_s", "stopped", "expected"),
    [
        (Phase.SETUP, 0, 0.0, True, None),
        (Phase.GONE, 9, 0.0, True, None),
        (Phase.COMPUTE, 9, 0.1, True, 1.0),
        (Phase.COMPUTE, 9, 2.0, True, 6.0),
        (Phase.COMPUTE, 0, 0.0, True, 1.0),
        (Phase.REGROUP, 9, 0.1, True, 1.0),
        (Phase.COMPUTE, 9, 0.1, False, 3.0),  # one that is not stopped gets the benefit of the doubt
        (Phase.COMPUTE, 9, 2.0, False, 18.0),
        (Phase.WAIT, 9, 0.1, False, 3.0),
        (Phase.SPARE, 0, 0.0, False, 3.0),
        (Phase.COMPUTE, 0, 0.0, False, 60.0),  # the first steps teach what a normal pause is
        (Phase.REGROUP, 9, 0.1, False, 10.0),
        (Phase.COMMIT, 9, 1.0, False, 30.0),
    ],
)
def test_limits(phase: Phase, steps_done: int, gap_s: float, stopped: bool, expected: float | None) -> None:
    row = ROW._replace(phase=phase, steps_done=steps_done, longest_gap_s=gap_s)
    assert limit_s(row, CONFIG, stopped=stopped) == (pytest.approx(expected) if expected else None)


def watched(ticks: int, *, beats: bool = False, starved_per_tick_s: float = 0.0, states: str = "TT") -> Observation:
    """An observation after so many ticks of 0.1 s."""
    starved = [0.0]
    seen = Observation(lambda _: starved[0], lambda _: frozenset(states))
    for tick in range(ticks + 1):
        seen.see(ROW._replace(beats=tick if beats else 5), 0.1)
        starved[0] += starved_per_tick_s
    return seen


@pytest.mark.parametrize(
    ("seen", "stuck"),
    [
        (watched(9), False),
        (watched(12), True),
        (watched(29, states="ST"), False),  # not stopped: it gets the benefit of the doubt
        (watched(32, states="ST"), True),
        (watched(50, beats=True), False),
        (watched(50, starved_per_tick_s=0.1), False),  # it wanted to run and got no turn
        (watched(50, starved_per_tick_s=0.05), True),  # it got a turn half of the time
        (watched(50, states="SD"), False),  # it waits for a disk
    ],
)
def test_stuck_or_only_slow(seen: Observation, stuck: bool) -> None:
    verdict = judge(3, seen, [], CONFIG)
    assert (verdict is not None) == stuck
    if verdict:
        assert verdict == Verdict(3, pytest.approx(seen.silent_s), 1.0 if seen.stopped else 3.0, Phase.COMPUTE)


def test_another_process_in_the_slot_starts_afresh() -> None:
    seen = watched(50)
    seen.see(ROW._replace(pid=200, born_ticks=9), 0.1)
    assert judge(3, seen, [], CONFIG) is None


def test_nobody_was_seen_yet() -> None:
    assert judge(3, Observation(), [], CONFIG) is None


@pytest.mark.parametrize(
    ("others", "stuck"),
    [([], True), ([Phase.SPARE, Phase.REGROUP], True), ([Phase.COMPUTE], False), ([Phase.SETUP], False)],
)
def test_who_regroups_may_have_to_wait_for_those_at_work(others: list[Phase], stuck: bool) -> None:
    seen = Observation(lambda _: 0.0, lambda _: frozenset("S"))
    for _ in range(30):
        seen.see(ROW._replace(phase=Phase.REGROUP), 0.5)
    rows = [ROW._replace(pid=1 + i, phase=phase) for i, phase in enumerate(others)]
    assert (judge(3, seen, rows, CONFIG) is not None) == stuck


# The board.


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def test_rows_come_back_and_others_stay_empty(board: Board) -> None:
    board.write(3, ROW)
    again = Board(board.path)
    assert again.read(3) == ROW
    assert again.read(4).pid == 0
    board.write(ROWS - 1, ROW)
    assert again.read(ROWS - 1) == ROW


def test_a_pulse_tells_phase_step_and_longest_pause(board: Board) -> None:
    pulse = Pulse(board, 2, 1)
    pulse.enter(Phase.COMPUTE, 1)
    time.sleep(0.02)
    pulse.beat()
    pulse.enter(Phase.WAIT)
    time.sleep(0.05)
    pulse.beat()  # a pause while it waits for others is none of its own
    row = board.read(2)
    assert (row.pid, row.incarnation, row.step, row.phase) == (os.getpid(), 1, 1, Phase.WAIT)
    assert 0.02 <= row.longest_gap_s < 0.05
    assert row.steps_done == 1
    assert lives(row)


def test_slots_have_an_end(board: Board) -> None:
    with pytest.raises(ConfigError, match="at most 1024 slots"):
        Pulse(board, ROWS, 0)


def test_shared_memory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot open shared memory"):
        Board(tmp_path / "missing" / "board")


@pytest.fixture
def sleeper() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def test_a_dead_process_and_a_reused_number_do_not_live(sleeper: subprocess.Popen[bytes]) -> None:
    row = ROW._replace(pid=sleeper.pid, born_ticks=born_ticks(sleeper.pid))
    assert lives(row)
    assert not lives(row._replace(born_ticks=row.born_ticks - 1))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(row)  # a zombie
    sleeper.wait()
    assert not lives(row)


def test_a_sleeping_process_is_not_starved(sleeper: subprocess.Popen[bytes]) -> None:
    before = starved_s(sleeper.pid)
    time.sleep(0.2)
    assert starved_s(sleeper.pid) - before < 0.1
    assert starved_s(2**22 + 1) == 0.0


def test_a_stopped_worker_is_killed_and_its_neighbour_told(board: Board, sleeper: subprocess.Popen[bytes]) -> None:
    """The watch's deed on a real process: it has written its row once, and is stopped."""
    told: list[tuple[int, int]] = []
    row = Row(1, sleeper.pid, born_ticks(sleeper.pid), 0, 9, 9, Phase.COMPUTE, time.monotonic(), 0.0, 0.01)
    board.write(1, row)
    sleeper.send_signal(signal.SIGSTOP)
    config = msgspec.structs.replace(CONFIG, floor_s=0.3)
    watch = Watch(board, 0, config, lambda verdict, row: told.append((verdict.slot, row.pid)))
    watch.start()
    assert sleeper.wait(timeout=10) == -signal.SIGKILL
    watch.stop()
    watch.join(5)
    assert told == [(1, sleeper.pid)]
