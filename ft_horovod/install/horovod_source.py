"""The source of the patched Horovod: which release, which edits, which patches, and how they are applied.

Patches are unified diffs in `patches/`, each with its reason above the first hunk. This module knows text and files; it
compiles nothing, knows no environment, and needs only the standard library.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RELEASE = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
PATCH_LEVEL = "ft2"  # begins the wheel's local version, `0.28.1+ft1.cpu`; raise it when the patches change
PATCHES = Path(__file__).resolve().parent / "patches"

_FILES = re.compile(r"^--- (?:a/)?(\S+)\n\+\+\+ (?:b/)?(\S+)\n", re.MULTILINE)
_HUNK = re.compile(r"^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@.*\n", re.MULTILINE)


class BuildError(Exception):
    """The wheel cannot be had. The message begins with a line that says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A replacement in one source file, for some variants; the old text must be there exactly once."""

    path: str
    old: str
    new: str
    variants: tuple[str, ...] = ("cpu", "gpu")


# Where an installed horovod/torch/mpi_lib_v2.so finds libmpi, torch and NCCL: beside it, in whatever environment it is.
# (CMake would write the paths of the environment it was built in, and a second one would load two copies of MPI.)
_RUNPATH = "$ORIGIN/../../../..;$ORIGIN/../../torch/lib;$ORIGIN/../../nvidia/nccl/lib"
_SET_RUNPATH = f'set(CMAKE_BUILD_WITH_INSTALL_RPATH TRUE)\nset(CMAKE_INSTALL_RPATH "{_RUNPATH}")'

EDITS = (
    # The headers of torch, and CUDA 13, need C++17.
    Edit(
        path="CMakeLists.txt",
        old="set(CMAKE_CXX_STANDARD 14)",
        new=f"set(CMAKE_CXX_STANDARD 17)\n{_SET_RUNPATH}",
    ),
    Edit(path="horovod/torch/CMakeLists.txt", old="set(CMAKE_CXX_STANDARD 14)", new="set(CMAKE_CXX_STANDARD 17)"),
    Edit(
        path="horovod/common/ops/cuda/CMakeLists.txt",
        old="set(CMAKE_CUDA_STANDARD 11)",
        new="set(CMAKE_CUDA_STANDARD 17)",
        variants=("gpu",),
    ),
    # A CUDA build of torch and any nvcc on the machine would otherwise make the CPU variant look for CUDA.
    Edit(
        path="cmake/Modules/FindPytorch.cmake",
        old='string(TOUPPER "${Pytorch_CUDA}" Pytorch_CUDA)',
        new="set(Pytorch_CUDA FALSE)",
        variants=("cpu",),
    ),
)


def digest(patches: Path = PATCHES, edits: Sequence[Edit] = EDITS) -> str:
    """Changes whenever the source that would be compiled does."""
    state = hashlib.sha256(repr((SDIST_SHA256, PATCH_LEVEL, tuple(edits))).encode())
    for patch in sorted(patches.glob("*.patch")):
        state.update(patch.name.encode() + b"\0" + patch.read_bytes())
    return state.hexdigest()


def fetch(folder: Path) -> Path:
    """Download the source distribution with this interpreter's pip, so that its index and proxy settings hold."""
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, f"horovod=={RELEASE}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    archives = sorted(folder.glob("horovod-*.tar.gz"))
    if done.returncode or not archives:
        advice = "where that cannot work, pass the source distribution with --sdist FILE"
        raise BuildError(f"cannot download horovod=={RELEASE}; {advice}\n{done.stderr.strip()}")
    return archives[0]


def unpack(archive: Path, folder: Path, sha256: str = SDIST_SHA256) -> Path:
    """Unpack a source distribution whose hash is as expected; returns its top folder. Raises BuildError."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != sha256:
        raise BuildError(f"{archive} is not the source of horovod {RELEASE}: its SHA-256 is {found}, not {sha256}")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"horovod-{RELEASE}"


def prepare(tree: Path, variant: str) -> None:
    """Patch and edit an unpacked source tree in place. Raises BuildError at the first line that is not as expected."""
    for patch in sorted(PATCHES.glob("*.patch")):
        apply_patch(tree, patch.read_text(), patch.name)
    apply_edits(tree, variant)


def apply_edits(tree: Path, variant: str, edits: Sequence[Edit] = EDITS) -> None:
    """Make the replacements meant for `variant`."""
    for edit in edits:
        if variant in edit.variants:
            text = _read(tree / edit.path, edit.path)
            if text.count(edit.old) != 1:
                raise BuildError(f"{edit.path}: expected exactly once, found {text.count(edit.old)} times: {edit.old}")
            (tree / edit.path).write_text(text.replace(edit.old, edit.new))


def apply_patch(tree: Path, diff: str, name: str) -> None:
    """Apply a unified diff, without any fuzz. New files come from /dev/null; nothing is deleted or renamed.

    The files are written only if every hunk fits.
    """
    starts = list(_FILES.finditer(diff))
    if not starts:
        raise BuildError(f"{name}: no unified diff in it")
    results: dict[Path, str] = {}
    ends = [match.start() for match in starts[1:]] + [len(diff)]
    for match, end in zip(starts, ends, strict=True):
        old, new = match.groups()
        path = tree / new
        text = "" if old == "/dev/null" else results.get(path) or _read(path, f"{name}: {new}")
        results[path] = _patched(text, diff[match.end() : end], f"{name}: {new}")
    for path, text in results.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _patched(text: str, hunks: str, where: str) -> str:
    """`text` with the hunks of one file applied."""
    source, result, position = text.splitlines(keepends=True), [], 0
    headers = list(_HUNK.finditer(hunks))
    ends = [match.start() for match in headers[1:]] + [len(hunks)]
    for header, end in zip(headers, ends, strict=True):
        body = [line for line in hunks[header.end() : end].splitlines(keepends=True) if line[0] in " +-"]
        before = [line[1:] for line in body if line[0] in " -"]
        start = max(int(header[1]) - 1, 0)
        if source[start : start + len(before)] != before:
            raise BuildError(f"{where}: line {start + 1} and those after it are not what the patch expects")
        result += source[position:start] + [line[1:] for line in body if line[0] in " +"]
        position = start + len(before)
    return "".join(result + source[position:])


def _read(path: Path, what: str) -> str:
    if not path.is_file():
        raise BuildError(f"{what}: no such file in the source of Horovod")
    return path.read_text()
