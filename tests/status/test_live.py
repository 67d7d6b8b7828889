"""The loop that follows a run: it ends when the run does, and gives the terminal back."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from fake_run import FakeRun, killed_and_hung, write_parts
from rich.console import Console

from ft_horovod.core.trace import AnyEvent
from ft_horovod.status.follow import Merger, Tail
from ft_horovod.status.launcher_pid import LauncherPid, read_launcher_pid
from ft_horovod.status.live import FRAMES_PER_S, show

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=30)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def after(polls: int) -> Callable[[], bool]:
    """A stop that comes after a few frames."""
    left = iter(range(polls))
    return lambda: next(left, None) is None


def test_stop_ends_it_and_the_last_events_are_still_read(run_dir: Path):
    LauncherPid.of_this_process().write(run_dir)
    events = killed_and_hung().events
    write_parts(run_dir, events[:50])
    frames = after(3)

    def stop() -> bool:
        stopped = frames()
        if stopped:
            write_parts(run_dir, events[50:])
        return stopped

    state = show(run_dir, Merger(run_dir), terminal(), stop)
    assert state.outcome is not None
    assert state.progress.step == 100


def test_a_terminal_is_filled_and_given_back(run_dir: Path):
    write_parts(run_dir, killed_and_hung().events)
    console = terminal()
    show(run_dir, Tail(run_dir), console, lambda: False)
    text = printed(console)
    assert text.count(ENTER_SCREEN) == text.count(LEAVE_SCREEN) == 1
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)
    assert "kills-on-digits" in text
    assert "without a last word" not in text


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_terminal_is_given_back_whatever_happens(run_dir: Path, error: type[BaseException]):
    LauncherPid.of_this_process().write(run_dir)

    def stop() -> bool:
        raise error

    console = terminal()
    with pytest.raises(error):
        show(run_dir, Tail(run_dir), console, stop)
    text = printed(console)
    assert text.index(LEAVE_SCREEN) > text.index(ENTER_SCREEN)
    assert text.rindex(SHOW_CURSOR) > text.rindex(HIDE_CURSOR)


def test_without_a_terminal_there_are_lines(run_dir: Path):
    write_parts(run_dir, killed_and_hung().events)
    console = Console(file=io.StringIO(), width=60)
    show(run_dir, Tail(run_dir), console, lambda: False)
    text = printed(console)
    assert "\x1b" not in text
    assert "recovered from hang of n1:0 in 1.0" in text
    assert "reinit" in text  # lines are not cut, however narrow a log is said to be
    assert text.splitlines()[-1].endswith("run finished")


def test_a_launcher_that_is_gone_is_told_of(run_dir: Path):
    write_parts(run_dir, FakeRun().started().train(5).events)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=10)
    LauncherPid(pid=gone.pid, host=socket.gethostname(), started=1.0).write(run_dir)
    console = terminal()
    state = show(run_dir, Tail(run_dir), console, lambda: False)
    assert state.progress.step == 5
    after_screen = printed(console).partition(LEAVE_SCREEN)[2]
    assert f"process {gone.pid} on {socket.gethostname()}" in after_screen
    assert "gone without a last word" in after_screen


def test_a_launcher_that_is_killed_meanwhile_is_told_of(run_dir: Path):
    write_parts(run_dir, FakeRun().started().train(5).events)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launcher:
        started = psutil.Process(launcher.pid).create_time()
        LauncherPid(pid=launcher.pid, host=socket.gethostname(), started=started).write(run_dir)
        frames = after(2)

        def kill_in_time() -> bool:
            if frames():
                launcher.kill()
            return False

        console = terminal()
        show(run_dir, Tail(run_dir), console, kill_in_time)
    assert "gone without a last word" in printed(console).partition(LEAVE_SCREEN)[2]


def test_a_folder_without_a_launcher_is_over(run_dir: Path):
    console = Console(file=io.StringIO(), width=100)
    show(run_dir, Tail(run_dir), console, lambda: False)
    assert "The launcher is gone without a last word" in printed(console)


def test_the_last_word_of_an_earlier_launch_does_not_end_the_view(run_dir: Path):
    LauncherPid.of_this_process().write(run_dir)
    first = FakeRun(steps=60).started().train(5).ended("quorum_lost").events
    write_parts(run_dir, first)
    batches: list[list[AnyEvent]] = []

    class Counting(Tail):
        def poll(self, *, last: bool = False) -> list[AnyEvent]:
            batches.append(super().poll(last=last))
            return batches[-1]

    frames = int(1.5 * FRAMES_PER_S)  # long enough for the launcher to be looked at again
    show(run_dir, Counting(run_dir), terminal(), after(frames))
    assert len(batches) == frames + 1


def test_a_run_on_another_host_ends_with_its_last_word(run_dir: Path):
    LauncherPid(pid=1, host="elsewhere", started=1.0).write(run_dir)
    write_parts(run_dir, killed_and_hung().events)
    state = show(run_dir, Tail(run_dir), terminal(), lambda: False)
    assert state.outcome is not None


def test_a_launcher_s_name_holds_for_one_process_only(run_dir: Path):
    mine = LauncherPid.of_this_process()
    mine.write(run_dir)
    assert read_launcher_pid(run_dir) == mine
    assert mine.is_alive() is True
    assert LauncherPid(pid=os.getpid(), host=mine.host, started=mine.started - 60).is_alive() is False
    assert LauncherPid(pid=os.getpid(), host="elsewhere", started=mine.started).is_alive() is None
    assert [path.name for path in run_dir.iterdir() if path.is_file()] == ["launcher.pid"]


def test_a_process_nobody_has_waited_for_is_dead(run_dir: Path):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        started = LauncherPid.of_this_process().started
        name = LauncherPid(pid=child.pid, host=socket.gethostname(), started=psutil.Process(child.pid).create_time())
        assert name.started >= started
        assert name.is_alive() is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still in the table of processes
        assert name.is_alive() is False
    finally:
        child.kill()
        child.communicate(timeout=10)


@pytest.mark.parametrize("text", ["", "12345\n", '{"pid": "x"}', '{"pid": 1}'])
def test_a_name_that_cannot_be_read_is_none(run_dir: Path, text: str):
    (run_dir / "launcher.pid").write_text(text)
    assert read_launcher_pid(run_dir) is None
