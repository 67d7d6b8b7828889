"""Real processes that write host memory and are killed: what is found afterwards was committed, and is not old."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ft_horovod.commit.host_files import Place
from ft_horovod.commit.host_memory import HostMemory, load
from ft_horovod.commit.host_memory_folder import find
from ft_horovod.commit.host_slices import Meta, newest_whole
from ft_horovod.core.errors import CommitError

TOTAL = 20_000
CHUNKS = 5
CHUNK_BYTES = 4 * TOTAL // CHUNKS
MOMENTS = ["begun", *["chunk"] * CHUNKS, "header", "whole"]  # of a commit, in order; the first also has "named"


def state(step: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(step).standard_normal(TOTAL, dtype=np.float32))


def newest(folder: Path) -> int:
    """The newest step found, which is bit for bit that step's; 0 for none."""
    chosen = newest_whole(find(folder, "demo", "node1"), "id")
    if not chosen:
        return 0
    into = torch.empty(TOTAL)
    load(chosen, into)
    step = chosen[0].meta.step
    assert torch.equal(into, state(step)), f"what is said to be step {step} is another state"
    assert chosen[0].meta.progress == b"%d" % step
    return step


class Writer:
    """A process that commits step after step, says so, and may be killed."""

    def __init__(self, folder: Path, at: Callable[[str], None] = lambda _: None, pause_s: float = 0.0):
        self._said, says = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._said)
                self._commit(folder, at, says, pause_s)
                status = 0
            finally:
                os._exit(status)
        os.close(says)

    def _commit(self, folder: Path, at: Callable[[str], None], says: int, pause_s: float) -> None:
        keep = next(iter(find(folder, "demo", "node1")), None)
        memory = HostMemory(Place("demo", "node1", 0, folder), TOTAL, keep=keep, chunk_bytes=CHUNK_BYTES, at=at)
        first = newest(folder) + 1
        for step in range(first, first + 2_000):
            meta = Meta(act=step, step=step, begin=0, end=TOTAL, total=TOTAL, identity="id", progress=b"%d" % step)
            memory.confirm()
            memory.begin(meta, state(step))
            memory.settle()
            assert memory.error is None
            os.write(says, step.to_bytes(4, "little"))
            time.sleep(pause_s)

    def says(self) -> int:
        """The next step that it says is committed; 0 when it is dead and has said everything."""
        return int.from_bytes(os.read(self._said, 4), "little")

    def end(self) -> int:
        """Kill it; the last step that it said is committed, 0 if none was left unread."""
        os.kill(self.pid, signal.SIGKILL)
        return self.last_words()

    def last_words(self) -> int:
        last = 0
        while said := self.says():
            last = said
        os.close(self._said)
        _, status = os.waitpid(self.pid, 0)
        assert os.WIFSIGNALED(status), "it ended by itself"
        return last


@pytest.fixture
def shm() -> Iterator[Path]:
    """A folder in real shared memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="host-memory-test-") as folder:
        yield Path(folder)


def die_at(count: int) -> Callable[[str], None]:
    """Ends this process at the `count`-th moment from now, counted from 0."""
    left = [count]

    def at(_: str) -> None:
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1

    return at


@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=lambda n: f"{n}-{MOMENTS[n]}")
@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_a_death_at_each_moment_of_a_commit(shm: Path, commits: int, number: int) -> None:
    named = int(commits > 0)
    last = Writer(shm, die_at(commits * len(MOMENTS) + named + number)).last_words()
    assert last == commits
    finished = MOMENTS[number] == "whole"
    assert newest(shm) == commits + finished
    Writer(shm, die_at(2)).last_words()  # the next life does not begin with the newest one
    assert newest(shm) == commits + finished
    Writer(shm, die_at(2 * len(MOMENTS) + 1)).last_words()
    assert newest(shm) >= commits + finished + 2


@pytest.mark.timeout(180)  # 200 processes, on a busy machine too
def test_two_hundred_deaths_in_a_row(shm: Path) -> None:
    """Half of them at random moments of a commit, half from outside, at any instruction."""
    rng = random.Random(20)
    before = 0
    for death in range(200):
        if death % 2:
            last = Writer(shm, die_at(rng.randrange(2 * len(MOMENTS)))).last_words()
        else:
            writer = Writer(shm)
            said = [writer.says() for _ in range(rng.randrange(3))]
            until = time.perf_counter() + rng.random() * 1e-3
            while time.perf_counter() < until:
                pass
            last = max([writer.end(), *said])
        last = max(last, before)
        before = newest(shm)
        assert last <= before <= last + 1, f"death {death}: step {last} was committed, {before} is found"
    assert before > 100


def test_a_reader_beside_a_writer_never_sees_a_torn_state(shm: Path) -> None:
    writer = Writer(shm, pause_s=0.002)
    seen: list[int] = []
    refused: list[str] = []
    try:
        writer.says()
        deadline = time.monotonic() + 20
        while len(set(seen)) < 30 and time.monotonic() < deadline:
            try:
                seen.append(newest(shm))
            except CommitError as error:
                refused.append(str(error))
    finally:
        writer.end()
    assert len(set(seen)) >= 30, f"{len(seen)} read, {len(refused)} refused"
    assert all("written over" in problem for problem in refused)
    assert seen == sorted(seen)
