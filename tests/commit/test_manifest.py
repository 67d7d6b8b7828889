"""The manifest: what it says comes back, and no byte of it can be another."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ft_horovod.commit.manifest import FORMAT, Manifest, ShardFile, Stamp, decode, encode
from ft_horovod.commit.names import Key, Shard, choose, is_ours
from ft_horovod.core.errors import CommitError

PATH = Path("commits/step-000000012-00112233/manifest.json")


def file(name: str) -> ShardFile:
    return ShardFile(name, 100, 1, 2, ("a", "b"))


def manifest(*names: str, shards: tuple[int, ...] = (2,)) -> Manifest:
    files = tuple(
        file(name) for name in names or ("stage-0.shard-1-of-2.safetensors", "stage-0.shard-2-of-2.safetensors")
    )
    return Manifest(FORMAT, 12, "a test, seed 7", 7, msgspec.Raw(b'{"act":3}'), 1.5, shards, files)


def test_it_comes_back() -> None:
    one = manifest()
    back = decode(encode(one), PATH)
    assert msgspec.structs.replace(back, checksum="", progress=one.progress) == one
    assert msgspec.json.decode(back.progress) == {"act": 3}
    assert back.size_bytes == 200


def test_any_change_is_noticed() -> None:
    raw = encode(manifest())
    for place in range(len(raw)):
        for bit in (1, 0x20):
            damaged = bytearray(raw)
            damaged[place] ^= bit
            with pytest.raises(CommitError, match=r"step-000000012-00112233/manifest\.json: damaged"):
                decode(bytes(damaged), PATH)
    for length in range(len(raw)):
        with pytest.raises(CommitError, match="damaged"):
            decode(raw[:length], PATH)
    with pytest.raises(CommitError, match="damaged"):
        decode(raw + b"\n", PATH)


@pytest.mark.parametrize(
    ("names", "shards", "problem"),
    [
        (("../x",), (1,), "'../x' is no shard's name"),
        (("/etc/passwd",), (1,), "no shard's name"),
        (("../stage-0.shard-1-of-1.safetensors",), (1,), "no shard's name"),
        (("stage-0.shard-1-of-1.safetensors/../../x",), (1,), "no shard's name"),
        (("manifest.json",), (1,), "no shard's name"),
        (("stage-0.shard-1-of-2.safetensors",), (2,), "not those of"),
        (("stage-1.shard-1-of-1.safetensors",), (1,), "not those of"),
        (("stage-0.shard-1-of-1.safetensors",) * 2, (1,), "not those of"),
        (("stage-0.shard-1-of-1.safetensors",), (), "not those of"),
        (("stage-0.shard-1-of-1.safetensors",), (1, 10**12), "not those of"),
        (("stage-0.shard-1-of-1.safetensors",), (1, 0), "not those of"),
    ],
)
def test_it_names_shards_and_nothing_else(names: tuple[str, ...], shards: tuple[int, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        manifest(*names, shards=shards)
    good = manifest("stage-0.shard-1-of-1.safetensors", shards=(1,))
    forced = msgspec.structs.replace(good)
    msgspec.structs.force_setattr(forced, "files", tuple(map(file, names)))
    msgspec.structs.force_setattr(forced, "shards", shards)
    with pytest.raises(CommitError, match=f"cannot be read: .*{problem}"):  # its checksum fits
        decode(encode(forced), PATH)


def test_another_format_is_refused() -> None:
    forced = manifest()
    msgspec.structs.force_setattr(forced, "format", "ft-horovod commit 2")
    with pytest.raises(CommitError, match="format 'ft-horovod commit 2', expected 'ft-horovod commit 1'"):
        decode(encode(forced), PATH)


def test_the_key_tells_runs_and_attempts_apart() -> None:
    one = Stamp(12, b"{1}", "run", 0)
    assert one.key == one._replace().key
    assert len({one.key, one._replace(progress=b"{2}").key, one._replace(identity="nur").key}) == 3
    assert Key.parse(one.key.name) == one.key
    assert Key.parse(one.key._replace(set_aside=True).name) == one.key._replace(set_aside=True)


@pytest.mark.parametrize(
    "name", ["step-12-00112233", "step-000000012", "step-000000012-0011223G", "x", "step-000000012-00112233.old"]
)
def test_other_folders_are_no_commits(name: str) -> None:
    assert Key.parse(name) is None


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("stage-0.shard-1-of-4.safetensors", True),
        ("stage-0.shard-1-of-4.safetensors.4711.writing", True),
        ("stage-0.shard-1-of-4.failed", True),
        ("manifest.json", True),
        ("manifest.json.1.writing", True),
        ("manifest.json.bak", False),
        ("notes.txt", False),
        ("stage-0.shard-5-of-4.safetensors", False),
        ("stage-00.shard-1-of-4.safetensors", False),
        ("model.safetensors", False),
    ],
)
def test_what_is_ours(name: str, ours: bool) -> None:
    assert is_ours(name) is ours


@pytest.mark.parametrize(
    ("there", "groups", "chosen", "missing"),
    [
        ([], (2,), [], [(0, 1, 2), (0, 2, 2)]),
        ([(0, 1, 2)], (2,), [(0, 1, 2)], [(0, 2, 2)]),
        ([(0, 1, 2), (0, 2, 2)], (2,), [(0, 1, 2), (0, 2, 2)], []),
        ([(0, 1, 1)], (4,), [(0, 1, 1)], []),  # one tensor, four members
        ([(0, 1, 4), (0, 2, 4), (0, 1, 1)], (1,), [(0, 1, 1)], []),  # three died; the last one wrote it all
        ([(0, 1, 1)], (1, 2), [(0, 1, 1)], [(1, 1, 2), (1, 2, 2)]),
        ([(0, 1, 1), (1, 2, 2), (2, 1, 1)], (1, 2), [(0, 1, 1), (1, 2, 2)], [(1, 1, 2)]),
    ],
)
def test_which_shards_make_a_commit(
    there: list[tuple[int, int, int]],
    groups: tuple[int, ...],
    chosen: list[tuple[int, int, int]],
    missing: list[tuple[int, int, int]],
) -> None:
    found = choose([Shard(*one).name for one in there] + ["manifest.json", "x"], groups)
    assert found == ([Shard(*one) for one in chosen], [Shard(*one) for one in missing])
