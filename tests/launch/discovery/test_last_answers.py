"""What is remembered between two calls: in a real folder, at times of our choosing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ft_horovod.core.errors import ConfigError
from launch.discovery.answer import Answer, Limits, find_hosts
from launch.discovery.cache import Memory, State
from launch.discovery.hosts import HostSlots, NoHosts
from launch.discovery.ledger import Ledger, Policy, exclude, report_failure
from launch.discovery.reading import Source

LIMITS = Limits(ask_s=20, max_age_s=100)


class Place:
    """A file of hosts, a folder for the memory, and a clock."""

    def __init__(self, folder: Path):
        self.file = folder / "hosts"
        self.folder = folder / "state"
        self.now_s = 1000.0

    def call(self, limits: Limits = LIMITS, kind: str = "static") -> Answer:
        source = Source(kind, str(self.file))  # type: ignore[arg-type]
        return find_hosts(source, State(self.folder), {}, lambda: self.now_s, policy=Policy(), limits=limits)

    def names(self, limits: Limits = LIMITS) -> list[str]:
        return [one.host for one in self.call(limits).hosts]

    def change(self, act: Callable[[Ledger], Ledger]) -> None:
        State(self.folder).change_ledger(act)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.file.write_text("a:2\nb:2\n")
    return place


BAD = [
    (lambda file: file.unlink(), "cannot be read: No such file"),
    (lambda file: file.write_text(""), "names no host"),
    (lambda file: file.write_text("a:2\n502 Bad Gateway\n"), ":2: expected HOST, HOST:SLOTS"),
]


@pytest.mark.parametrize(("spoil", "problem"), BAD)
def test_the_last_good_answer_is_used_when_the_source_fails(
    place: Place, spoil: Callable[[Path], object], problem: str
) -> None:
    good = place.call()
    assert (good.age_s, good.problem, good.notes) == (0, None, ())
    spoil(place.file)
    place.now_s += 42
    answer = place.call()
    assert answer.hosts == good.hosts
    assert answer.age_s == 42
    assert problem in (answer.problem or "")
    assert answer.notes == (answer.problem, "going on with the last good answer, 42 s old")


@pytest.mark.parametrize(("spoil", "problem"), BAD)
def test_without_one_the_error_is_the_sources(place: Place, spoil: Callable[[Path], object], problem: str) -> None:
    spoil(place.file)
    with pytest.raises(ConfigError) as caught:
        place.call()
    assert problem in str(caught.value)


@pytest.mark.parametrize("step_s", [101, -101])  # a clock that is set back makes an answer no younger
def test_an_old_answer_is_of_no_use(place: Place, step_s: float) -> None:
    place.call()
    place.file.write_text("a:2\noops!\n")
    place.now_s += step_s
    with pytest.raises(ConfigError, match=r"hosts:2: .*; its last good answer is 101 s old, more than 100 s"):
        place.call()


def test_a_failing_source_does_not_make_its_answer_younger(place: Place) -> None:
    place.call()
    place.file.unlink()
    place.now_s += 60
    place.call()
    place.now_s += 60
    with pytest.raises(ConfigError, match="120 s old"):
        place.call()


def test_a_source_that_is_well_again_is_used_at_once(place: Place) -> None:
    place.call()
    place.file.unlink()
    place.call()
    place.file.write_text("c:1\n")
    assert place.names() == ["c"]


def test_a_cluster_that_is_starting_has_no_hosts_yet(place: Place) -> None:
    place.file.write_text("")
    answer = place.call(kind="hostfile")
    assert answer.hosts == ()
    assert answer.notes == (f"{place.file}: names no host, yet",)
    with pytest.raises(NoHosts):
        place.call(kind="static")
    place.file.write_text("a:1\n")
    assert place.call(kind="hostfile").hosts == (HostSlots("a", 1),)
    place.file.write_text("")
    assert place.call(kind="hostfile").hosts == (HostSlots("a", 1),)


def test_the_order_is_that_of_the_last_answer(place: Place) -> None:
    assert place.names() == ["a", "b"]
    place.file.write_text("c\nb\na\n")
    assert place.names() == ["a", "b", "c"]
    place.file.write_text("c\nb\n")
    assert place.names() == ["b", "c"]
    place.file.write_text("a\nc\nb\n")
    assert place.names() == ["b", "c", "a"]


def test_failures_and_exclusions_hold_between_calls(place: Place) -> None:
    place.change(lambda ledger: exclude(report_failure(ledger, "a", 1, 1000.0), "b"))
    assert place.call().hosts == (HostSlots("a", 1),)
    place.now_s += Policy().cooldown_s
    assert place.call().hosts == (HostSlots("a", 2),)


def test_old_failures_are_forgotten_exclusions_are_not(place: Place) -> None:
    place.change(lambda ledger: exclude(report_failure(ledger, "a", 1, 1000.0), "b"))
    place.now_s += 1e6
    place.call()
    assert State(place.folder).ledger() == Ledger(excluded=frozenset({"b"}))


def test_the_same_trouble_is_not_told_each_second(place: Place) -> None:
    place.call()
    place.file.unlink()
    assert len(place.call().notes) == 2
    place.now_s += 1
    assert place.call().notes == ()
    place.change(lambda ledger: report_failure(ledger, "a", 1, place.now_s))
    assert any("a is without 1 of its slots: a worker died" in note for note in place.call().notes)
    place.now_s += 1
    assert place.call().notes == ()
    place.now_s += 60
    assert len(place.call().notes) == 2


def test_a_young_answer_is_given_without_asking(place: Place) -> None:
    limits = Limits(ask_s=20, refresh_s=10)
    place.names(limits)
    place.file.write_text("c\n")
    place.now_s += 9.9
    assert place.names(limits) == ["a", "b"]
    place.now_s += 0.1
    assert place.names(limits) == ["c"]


def test_a_damaged_memory_is_told_and_replaced(place: Place) -> None:
    place.call()
    for file in place.folder.glob("*.json"):
        file.write_text('{"source":')
    answer = place.call()
    assert [one.host for one in answer.hosts] == ["a", "b"]
    assert "cannot be used" in answer.notes[0]
    assert place.call().notes == ()


def test_each_source_has_its_own_memory(place: Place) -> None:
    place.call()
    place.file.unlink()
    with pytest.raises(ConfigError):
        place.call(kind="hostfile")


def test_the_answer_of_another_job_is_not_ours(place: Place) -> None:
    source, state = Source("slurm"), State(place.folder)
    good = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a"}
    assert find_hosts(source, state, good, lambda: 1000.0).hosts == (HostSlots("a", 1),)
    bad = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "a["}
    assert find_hosts(source, state, bad, lambda: 1001.0).hosts == (HostSlots("a", 1),)
    with pytest.raises(ConfigError, match="SLURM_JOB_NODELIST: brackets do not match"):
        find_hosts(source, state, {**bad, "SLURM_JOB_ID": "8"}, lambda: 1001.0)


def test_without_a_folder_to_write_in_the_answer_is_given_all_the_same(place: Place) -> None:
    place.folder.write_text("a file, not a folder")
    answer = place.call()
    assert [one.host for one in answer.hosts] == ["a", "b"]
    assert "nothing was remembered" in answer.notes[-1]


def test_a_lock_that_is_held_does_not_hold_us_up(place: Place) -> None:
    place.call()
    place.file.write_text("b\na\nc\n")
    fd = os.open(place.folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        answer = place.call()
        assert [one.host for one in answer.hosts] == ["a", "b", "c"]  # in the order that is known
        assert "is locked by another process" in answer.notes[-1]
    finally:
        os.close(fd)


@pytest.mark.parametrize(("ahead_s", "names"), [(1, ["z"]), (500, ["a", "b"])])
def test_an_answer_that_another_process_got_meanwhile_is_kept(place: Place, ahead_s: float, names: list[str]) -> None:
    """Asked at 1000, here; the other at 1001, or, before the clock was set back, at 1500; it is 1002 now."""
    source = Source("static", str(place.file))
    state = State(place.folder)
    with state.lock():
        state.keep_memory(Memory(str(source), (HostSlots("z", 1),), 1000 + ahead_s))
    times = iter([1000.0, 1002.0])
    answer = find_hosts(source, state, {}, lambda: next(times), limits=LIMITS)
    assert [one.host for one in answer.hosts] == names


def test_failures_reported_at_the_same_time_all_count(place: Place) -> None:
    def report(slot: int) -> None:
        place.change(lambda ledger: report_failure(ledger, "a", slot, 1000.0))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(40)))
    assert sorted(failure.slot or 0 for failure in State(place.folder).ledger().failures["a"]) == list(range(40))
    assert not list(place.folder.glob("*.new"))
