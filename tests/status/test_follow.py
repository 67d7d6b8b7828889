"""Traces as they grow, with writers that are killed in the middle of a line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_run import FakeRun, killed_and_hung, write_parts

from ft_horovod.core.trace import AnyEvent, RunFinished, decode_lines, encode
from ft_horovod.status.follow import Merger, Tail, TraceFolder, read_trace

# Writes lines in pieces of a few bytes for as long as it lives, so that a kill hits the middle of a line.
WRITER = """
import itertools, os, sys, time
path, name = sys.argv[1:]
file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in itertools.count():
    line = ('{"event":"step_finished","time_s":%.6f,"by":"%s","epoch":0,"step":%d,"step_s":0.1,"loss":1.0,'
            '"samples":8,"lr":0.1}\\n' % (time.time(), name, step)).encode()
    for start in range(0, len(line), 40):
        os.write(file, line[start : start + 40])
        time.sleep(0.0005)
"""


@pytest.fixture
def start_writer(run_dir: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts writers; all are gone at the end."""
    writers: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        path = run_dir / "trace" / f"{name.replace(':', '-')}.jsonl"
        writers.append(subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]))
        return writers[-1]

    yield start
    for writer in writers:
        writer.kill()
        writer.wait(timeout=10)


def step(time_s: float, by: str = "n1:0") -> AnyEvent:
    return RunFinished(time_s=time_s, by=by, outcome="finished")


def part(run_dir: Path, name: str) -> Path:
    return run_dir / "trace" / f"{name}.jsonl"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_a_folder_without_a_trace_is_empty(tmp_path: Path):
    assert read_trace(tmp_path) == []
    assert Tail(tmp_path).poll() == []
    assert Merger(tmp_path).poll() == []
    assert not TraceFolder(tmp_path).merged.exists()


def test_parts_are_read_by_time(run_dir: Path):
    events = killed_and_hung().events
    write_parts(run_dir, events)
    assert read_trace(run_dir) == sorted(events, key=lambda event: event.time_s)


def test_the_merged_file_is_enough(run_dir: Path):
    TraceFolder(run_dir).merged.write_bytes(b"".join(map(encode, [step(2.0), step(1.0)])))
    assert [event.time_s for event in read_trace(run_dir)] == [1.0, 2.0]


def test_what_a_killed_launcher_did_not_merge_is_read_too(run_dir: Path):
    write_parts(run_dir, [step(1.0), step(2.0), step(3.0)])
    TraceFolder(run_dir).merged.write_bytes(encode(step(1.0)) + encode(step(2.0))[:20])
    assert [event.time_s for event in read_trace(run_dir)] == [1.0, 2.0, 3.0]


def test_a_torn_line_waits_for_its_rest(run_dir: Path):
    line = encode(step(1.0))
    tail = Tail(run_dir)
    append(part(run_dir, "a"), line[:-1])
    assert tail.poll() == []
    assert tail.poll() == []
    append(part(run_dir, "a"), line[-1:] + line[:5])
    assert tail.poll() == [step(1.0)]
    append(part(run_dir, "a"), line[5:])
    assert tail.poll() == [step(1.0)]
    assert tail.poll() == []


def test_a_line_that_is_no_event_is_skipped(run_dir: Path):
    append(part(run_dir, "a"), b'{"event":"of a later version"}\n\xff\xfe\n{"torn\n' + encode(step(1.0)))
    assert Tail(run_dir).poll() == [step(1.0)]


def test_a_file_that_is_written_anew_is_read_anew(run_dir: Path):
    tail = Tail(run_dir)
    append(part(run_dir, "a"), encode(step(1.0)) + encode(step(2.0)))
    assert len(tail.poll()) == 2
    part(run_dir, "a").write_bytes(encode(step(3.0)))
    assert tail.poll() == [step(3.0)]


def test_files_that_come_later_are_found(run_dir: Path):
    tail = Tail(run_dir)
    append(part(run_dir, "a"), encode(step(2.0)))
    assert tail.poll() == [step(2.0)]
    append(part(run_dir, "b"), encode(step(4.0)))
    append(part(run_dir, "a"), encode(step(3.0)))
    (run_dir / "trace" / "notes.txt").write_text("not a trace\n")
    assert tail.poll() == [step(3.0), step(4.0)]


def test_a_poll_without_news_opens_no_file(run_dir: Path, monkeypatch: pytest.MonkeyPatch):
    append(part(run_dir, "a"), encode(step(1.0)) + b"torn")
    tail = Tail(run_dir)
    assert tail.poll() == [step(1.0)]
    opened: list[Path] = []
    really_open = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *how: opened.append(path) or really_open(path, *how))
    assert tail.poll() == []
    assert opened == []
    append(part(run_dir, "a"), b"\n")
    tail.poll()
    assert len(opened) == 2


class HandClock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_merger_puts_late_lines_in_their_place(run_dir: Path):
    clock = HandClock()
    merger = Merger(run_dir, reorder_s=0.3, clock=clock)
    append(part(run_dir, "a"), encode(step(10.2)))
    assert merger.poll() == []
    clock.now_s += 0.2
    append(part(run_dir, "b"), encode(step(10.1)) + encode(step(10.3)))
    assert merger.poll() == []
    clock.now_s += 0.15
    assert merger.poll() == [step(10.1), step(10.2)]  # the older one goes along; the younger one waits on
    assert TraceFolder(run_dir).merged.read_bytes() == encode(step(10.1)) + encode(step(10.2))
    assert merger.flush() == [step(10.3)]
    assert read_trace(run_dir) == [step(10.1), step(10.2), step(10.3)]


def test_a_clock_that_is_ahead_holds_nothing_up(run_dir: Path):
    clock = HandClock()
    merger = Merger(run_dir, reorder_s=0.3, clock=clock)
    append(part(run_dir, "ahead"), encode(step(5000.0)))
    merger.poll()
    clock.now_s += 0.4
    assert merger.poll() == [step(5000.0)]


def test_a_merger_goes_on_in_an_old_folder(run_dir: Path):
    events = FakeRun(steps=20).started().train(10).events
    write_parts(run_dir, events)
    Merger(run_dir).flush()
    append(TraceFolder(run_dir).merged, encode(step(1.0))[:30])  # the launcher was killed here
    later = FakeRun(steps=20)
    later.now_s += 1000
    later.started(step=5).train(5)
    second = Merger(run_dir)
    write_parts(run_dir, later.events)
    everything = sorted([*events, *later.events], key=lambda event: event.time_s)
    assert second.flush() == everything
    assert second.flush() == []
    lines = TraceFolder(run_dir).merged.read_bytes().splitlines(keepends=True)
    assert list(decode_lines(lines)) == everything
    assert len(lines) == len(everything)


@pytest.mark.parametrize("rounds", [3])
def test_writers_killed_in_the_middle_of_a_line(run_dir: Path, start_writer, rounds: int):
    merger, tail = Merger(run_dir, reorder_s=0.3), Tail(run_dir)
    merged: list[AnyEvent] = []
    tailed: list[AnyEvent] = []
    for number in range(rounds):
        writers = [start_writer(f"n1:{3 * number + i}") for i in range(3)]
        deadline = time.monotonic() + 15
        seen = len(tailed)
        while len(tailed) < seen + 60:
            assert time.monotonic() < deadline, "the writers do not write"
            merged += merger.poll()
            tailed += tail.poll()
            time.sleep(0.01)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait(timeout=10)
    merged += merger.flush()
    tailed += tail.poll()
    files = TraceFolder(run_dir).part_files()
    assert any(not path.read_bytes().endswith(b"\n") for path in files), "no kill hit the middle of a line"
    whole = {line for path in files for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")}
    lines = TraceFolder(run_dir).merged.read_bytes().splitlines(keepends=True)
    assert len(lines) == len(whole)
    assert set(lines) == whole
    assert all(json.loads(line)["event"] == "step_finished" for line in lines)
    assert sorted(map(encode, tailed)) == sorted(map(encode, merged))
    times = [event.time_s for event in merged]
    assert times == sorted(times)
