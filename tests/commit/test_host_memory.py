"""Host memory: what is written is found and loaded, what is damaged or foreign is refused, a lack of room is said."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ft_horovod.commit.host_files import Place, needed_bytes
from ft_horovod.commit.host_memory import HostMemory, load
from ft_horovod.commit.host_memory_folder import find, remove, room
from ft_horovod.commit.host_slices import PROGRESS_LIMIT_BYTES, Meta, Slice, newest_whole
from ft_horovod.commit.inventory import in_host_memory
from ft_horovod.core.errors import CommitError, InvalidTransition

TOTAL = 40_000
CHUNK_BYTES = 16_384


def state(step: int) -> torch.Tensor:
    return torch.arange(TOTAL, dtype=torch.float32) + step


def meta(step: int, begin: int = 0, end: int = TOTAL, total: int = TOTAL) -> Meta:
    return Meta(act=step, step=step, begin=begin, end=end, total=total, identity="id", progress=b"{}")


def write(memory: HostMemory, step: int, begin: int = 0, end: int = TOTAL) -> None:
    memory.confirm()
    memory.begin(meta(step, begin, end), state(step)[begin:end])
    memory.settle()
    assert memory.error is None


def place(folder: Path, slot: int = 0, host: str = "node1", run: str = "demo") -> Place:
    return Place(run, host, slot, folder)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[HostMemory]:
    made = HostMemory(place(tmp_path), TOTAL, chunk_bytes=CHUNK_BYTES)
    yield made
    made.close()


def found(folder: Path) -> list[Slice]:
    return find(folder, "demo", "node1")


def loaded(slices: list[Slice] | tuple[Slice, ...]) -> torch.Tensor:
    into = torch.full((TOTAL,), -7.0)
    load(slices, into)
    return into


# Writing and finding.


def test_a_state_comes_back_bit_for_bit(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 5)
    (one,) = newest_whole(found(tmp_path), "id")
    assert one.meta == meta(5)
    assert torch.equal(loaded([one]), state(5))
    assert memory.path.stat().st_mode & 0o777 == 0o600


def test_the_newest_two_commits_are_there(memory: HostMemory, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(memory, step)
    assert [one.meta.step for one in found(tmp_path)] == [3, 2]
    for one in found(tmp_path):
        assert torch.equal(loaded([one]), state(one.meta.step))


def test_slices_of_several_workers_make_one_state(tmp_path: Path) -> None:
    cuts = [(0, 10_000), (10_000, 10_001), (9_000, TOTAL)]
    for slot, (begin, end) in enumerate(cuts):
        memory = HostMemory(place(tmp_path, slot), end - begin, chunk_bytes=CHUNK_BYTES)
        write(memory, 4, begin, end)
        memory.close()
    chosen = newest_whole(found(tmp_path), "id")
    assert [one.slot for one in chosen] == [0, 2]
    assert torch.equal(loaded(chosen), state(4))


def test_only_the_ranges_of_the_slices_are_written(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1, 100, 200)
    into = loaded(found(tmp_path))
    assert torch.equal(into[100:200], state(1)[100:200])
    assert (into[:100] == -7).all()
    assert (into[200:] == -7).all()


def test_nothing_has_its_name_before_a_commit_is_whole(memory: HostMemory, tmp_path: Path) -> None:
    assert not memory.path.exists()
    assert found(tmp_path) == []
    write(memory, 1)
    assert memory.path.exists()


def test_the_next_process_goes_on_in_the_same_file(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    write(memory, 2)
    inode = memory.path.stat().st_ino
    after = HostMemory(place(tmp_path), TOTAL, keep=found(tmp_path)[0])
    write(after, 3)
    after.close()
    assert [one.meta.step for one in found(tmp_path)] == [3, 2]
    assert memory.path.stat().st_ino == inode


def test_a_file_of_another_size_stays_until_all_have_a_whole_slice_in_the_new_ones(
    memory: HostMemory, tmp_path: Path
) -> None:
    write(memory, 1)
    after = HostMemory(place(tmp_path), TOTAL // 2)
    assert torch.equal(loaded(found(tmp_path)), state(1))
    write(after, 2, 0, TOTAL // 2)  # others may not be as far yet: they find each other's old slices
    assert [(one.meta.step, one.meta.end) for one in found(tmp_path)] == [(2, TOTAL // 2), (1, TOTAL)]
    write(after, 3, 0, TOTAL // 2)  # begun when all are
    after.close()
    assert [(one.meta.step, one.meta.end) for one in found(tmp_path)] == [(3, TOTAL // 2), (2, TOTAL // 2)]
    assert sorted(tmp_path.iterdir()) == [memory.path]


def test_runs_and_hosts_are_told_apart_whatever_their_names(tmp_path: Path) -> None:
    names = [("a", "b.c"), ("a.b", "c"), ("a", "b"), ("a/b", "%2E")]
    for step, (run, host) in enumerate(names):
        memory = HostMemory(place(tmp_path, 0, host, run), TOTAL)
        write(memory, step)
        memory.close()
    for step, (run, host) in enumerate(names):
        assert [one.meta.step for one in find(tmp_path, run, host)] == [step]
    assert remove(tmp_path, "a", "b") == 1
    assert remove(tmp_path, "a") == 1
    assert len(list(tmp_path.iterdir())) == 2


# Use and misuse.


def test_a_commit_too_many_or_of_another_shape_is_a_bug(tmp_path: Path) -> None:
    seen: list[bool] = []

    def at(moment: str) -> None:
        if moment == "begun":
            with pytest.raises(InvalidTransition):
                memory.begin(meta(2), state(2))
            seen.append(memory.done)

    memory = HostMemory(place(tmp_path), TOTAL, at=at)
    write(memory, 1)
    assert seen == [False]
    for wrong in (state(1)[1:], state(1).double(), state(1).view(2, -1)):
        with pytest.raises(InvalidTransition):
            memory.begin(meta(2), wrong)
    assert memory.done
    memory.close()


def test_a_slice_too_large_is_an_error_and_hurts_nothing(tmp_path: Path) -> None:
    memory = HostMemory(place(tmp_path), TOTAL - 1)
    write(memory, 1, 1)
    memory.begin(meta(2), state(2))
    memory.settle()
    assert "40000 elements, made for 39999" in str(memory.error)
    write(memory, 3, 1)
    memory.close()
    assert [one.meta.step for one in found(tmp_path)] == [3, 1]


def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """Between the chunks the copy waits for the caller, who does not wait: nothing becomes whole."""
    beats: list[int] = []

    def at(moment: str) -> None:
        deadline = time.monotonic() + 10
        while moment == "chunk" and memory.error is None and len(beats) and time.monotonic() < deadline:
            time.sleep(0.001)

    memory = HostMemory(place(tmp_path), TOTAL, chunk_bytes=CHUNK_BYTES, at=at)
    write(memory, 1)
    beats.append(0)
    memory.confirm()
    memory.begin(meta(2), state(2))
    memory.settle(lambda: beats.append(1), limit_s=0.05)
    assert "not copied within" in str(memory.error)
    assert len(beats) > 1
    beats.clear()
    memory.settle()
    assert [one.meta.step for one in found(tmp_path)] == [1]
    write(memory, 3)
    memory.close()
    assert [one.meta.step for one in found(tmp_path)] == [3, 1]


@pytest.mark.parametrize(
    "wrong", [{"begin": 5, "end": 5}, {"begin": -1}, {"end": 9, "total": 8}, {"stage": 1}, {"progress": b"x" * 16_385}]
)
def test_a_slice_that_is_none_cannot_be_described(wrong: dict[str, int | bytes]) -> None:
    good: dict[str, int | bytes | str] = {"begin": 0, "end": 4, "total": 4, "identity": "", "progress": b""}
    with pytest.raises(ValueError):
        Meta(act=0, step=0, **(good | wrong))


def test_the_longest_description_fits(memory: HostMemory, tmp_path: Path) -> None:
    long = Meta(
        act=2**62, step=2**62, begin=0, end=1, total=2**62, identity="i" * 64, progress=b"p" * PROGRESS_LIMIT_BYTES
    )
    memory.begin(long, torch.ones(1))
    memory.settle()
    assert memory.error is None
    assert found(tmp_path)[0].meta == long


# Damage.


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("element", [0, 4_095, 4_096, TOTAL - 1])
def test_a_flipped_bit_is_refused_and_nothing_is_changed(memory: HostMemory, tmp_path: Path, element: int) -> None:
    other = HostMemory(place(tmp_path, 1), TOTAL)
    write(other, 1, 0, 100)
    other.close()
    write(memory, 1)
    flip(memory.path, 65_536 + 4 * element)
    slices = sorted(found(tmp_path), key=lambda one: -one.slot)  # the good one would be copied first
    into = torch.full((TOTAL,), 7.0)
    with pytest.raises(CommitError, match=rf"{memory.path.name}: step 1: the checksum"):
        load(slices, into)
    assert (into == 7).all()


def test_each_byte_of_a_header_matters(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    raw = memory.path.read_bytes()
    length = int.from_bytes(raw[16_384 + 8 : 16_384 + 16], "little")
    for offset in [*range(16_384 + 8, 16_384 + 24 + length), *range(24)]:
        flip(memory.path, offset)
        assert found(tmp_path) == []
        flip(memory.path, offset)
    assert len(found(tmp_path)) == 1


@pytest.mark.parametrize("size", [0, 10, 32, 40_000, 70_000, -1])
def test_a_truncated_file_is_no_slice_and_is_replaced(memory: HostMemory, tmp_path: Path, size: int) -> None:
    write(memory, 1)
    slices = found(tmp_path)
    os.truncate(memory.path, size % memory.path.stat().st_size)
    assert found(tmp_path) == []
    with pytest.raises(CommitError, match=memory.path.name):
        loaded(slices)
    assert in_host_memory("demo", 0.0, contents=True, memory=tmp_path) == []
    after = HostMemory(place(tmp_path), TOTAL)
    write(after, 2)
    after.close()
    assert [one.meta.step for one in found(tmp_path)] == [2]


def test_junk_is_passed_over(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    name = memory.path.name[:-1]
    (tmp_path / f"{name}1").write_bytes(os.urandom(300_000))
    (tmp_path / f"{name}2").mkdir()
    os.mkfifo(tmp_path / f"{name}3", 0o600)
    (tmp_path / f"{name}4").symlink_to(memory.path)
    (tmp_path / f"{name}5").symlink_to(tmp_path / "nothing")
    (tmp_path / f"{name}x").write_text("another name")
    (tmp_path / "ft-horovod-demo-node1.board").write_text("a board")
    assert [one.slot for one in found(tmp_path)] == [0]
    rows = in_host_memory("demo", 0.0, contents=True, memory=tmp_path)
    assert [(row.tier, row.step, row.holder, row.shards, row.problem) for row in rows] == [
        ("host memory", 1, "node1", (1,), None)
    ]


def test_what_was_written_over_since_is_refused(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    old = found(tmp_path)
    write(memory, 2)
    assert torch.equal(loaded(old), state(1))
    write(memory, 3)
    with pytest.raises(CommitError, match="written over"):
        loaded(old)
    remove(tmp_path, "demo")
    with pytest.raises(CommitError, match="is gone"):
        loaded(old)


def test_another_models_slice_is_refused(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    into = torch.zeros(TOTAL + 1)
    with pytest.raises(CommitError, match="of 40000 elements in all, expected 40001"):
        load(found(tmp_path), into)
    assert not into.any()


# Others' files.


@pytest.mark.parametrize("kind", ["symlink", "dangling", "hardlink", "open to others", "folder", "pipe"])
def test_what_is_not_ours_alone_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    target, path = tmp_path / "precious", place(tmp_path).path
    target.write_bytes(b"precious")
    target.chmod(0o600)
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "dangling":
            path.symlink_to(tmp_path / "new")
        case "hardlink":
            path.hardlink_to(target)
        case "open to others":
            path.write_bytes(b"")
            path.chmod(0o666)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path, 0o600)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CommitError, match=path.name):
        HostMemory(place(tmp_path), TOTAL)
    assert sorted(tmp_path.iterdir()) == before
    assert target.read_bytes() == b"precious"


def test_a_link_laid_for_the_new_file_is_not_followed(tmp_path: Path) -> None:
    target, aside = tmp_path / "precious", place(tmp_path).path.with_name(place(tmp_path).path.name + "~")
    target.write_bytes(b"precious")
    aside.symlink_to(target)
    memory = HostMemory(place(tmp_path), TOTAL)
    write(memory, 1)
    memory.close()
    assert target.read_bytes() == b"precious"
    assert not memory.path.is_symlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_file_is_neither_used_nor_removed(memory: HostMemory, tmp_path: Path) -> None:
    write(memory, 1)
    os.chown(memory.path, 12_345, 12_345)
    assert found(tmp_path) == []
    assert remove(tmp_path, "demo") == 0
    with pytest.raises(CommitError, match="not a file that this user alone can open"):
        HostMemory(place(tmp_path), TOTAL)


# Room, rows.


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MiB."""
    folder = tmp_path / "shm"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, capture_output=True, timeout=10
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=10)


def test_a_small_dev_shm_is_said_before_it_hurts(small: Path) -> None:
    elements = 1 << 18
    line = str(room(needed_bytes(elements), small))
    for part in (str(small), "1 of 1 MiB free", "needs 2 MiB", "--shm-size=1g", "commit.host_memory: off"):
        assert part in line
    assert "\n" not in line
    with pytest.raises(CommitError, match="--shm-size"):
        HostMemory(place(small), elements)
    assert list(small.iterdir()) == []
    assert room(needed_bytes(TOTAL), small) is None


def test_what_the_run_left_there_is_no_lack_of_room(small: Path) -> None:
    memory = HostMemory(place(small), 80_000)
    memory.close()
    needed = needed_bytes(80_000)
    assert "remove what dead programs left there" in str(room(needed, small))
    assert room(needed, small, "demo") is None
    assert room(needed, small, "another") is not None


def test_without_room_for_both_the_old_size_goes_first(small: Path) -> None:
    memory = HostMemory(place(small), 80_000)
    memory.begin(meta(1, 0, 80_000, 80_000), torch.zeros(80_000))
    memory.settle()
    memory.close()
    del memory  # its mapping holds the old memory
    after = HostMemory(place(small), 70_000)
    write(after, 2)
    after.close()
    assert [one.meta.step for one in found(small)] == [2]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert "No such file" in str(room(1, nowhere))
    assert find(nowhere, "demo", "node1") == []
    with pytest.raises(CommitError, match="No such file"):
        HostMemory(place(nowhere), TOTAL)


def test_rows_say_what_is_there(memory: HostMemory, tmp_path: Path) -> None:
    before = time.time()
    write(memory, 1)
    write(memory, 2, 10, 20)
    flip(memory.path, 65_536)
    newest, older = in_host_memory("demo", time.time() + 5, contents=True, memory=tmp_path)
    assert (newest.tier, newest.holder, newest.step, newest.shards, newest.size_bytes) == (
        "host memory",
        "node1",
        2,
        (1,),
        40,
    )
    assert newest.problem == "only a part of it is here"
    assert 5 <= newest.age_s <= 5 + time.time() - before
    assert older.step == 1
    assert "checksum" in str(older.problem)
