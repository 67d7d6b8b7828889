"""For which devices Horovod is compiled: cpu, or gpu with NCCL.

This module looks at the machine (nvidia-smi, a CUDA toolkit, the torch that is installed) and decides. It compiles
nothing and needs only the standard library.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ft_horovod.install.horovod_source import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What the wheel is compiled for, and why. Compute capabilities are written as nvcc does, `90` for 9.0."""

    name: str
    why: str
    cuda_home: Path | None = None
    capabilities: tuple[str, ...] = ()


def choose_variant(wanted: str, *, capabilities: tuple[str, ...], cuda_home: Path | None, torch_cuda: str) -> Variant:
    """Decide between cpu and gpu; `wanted` is one of them or auto.

    A gpu wheel may be asked for on a machine without a card; it is then compiled for all that nvcc knows. Raises
    BuildError when it cannot be compiled at all.
    """
    if wanted == "cpu":
        return Variant(name="cpu", why="asked for")
    missing = ""
    if not torch_cuda:
        missing = "torch was built without CUDA"
    elif cuda_home is None:
        missing = f"no CUDA {torch_cuda} toolkit found (bin/nvcc and include/cuda_runtime.h); CUDA_HOME names it"
    if missing and wanted == "gpu":
        raise BuildError(f"the gpu variant cannot be built: {missing}")
    if wanted == "auto" and not capabilities:
        missing = "nvidia-smi lists no GPU"
    if missing:
        return Variant(name="cpu", why=missing)
    cards = f"compute capability {', '.join(capabilities)}" if capabilities else "asked for, all compute capabilities"
    return Variant(name="gpu", why=f"{cards}, toolkit in {cuda_home}", cuda_home=cuda_home, capabilities=capabilities)


def gpu_capabilities() -> tuple[str, ...]:
    """Compute capabilities of the cards, without dots and repetitions."""
    found = {line.replace(".", "") for line in _ask_nvidia_smi("compute_cap")}
    return tuple(sorted(capability for capability in found if capability.isdigit()))


def gpu_names() -> tuple[str, ...]:
    """The names of the cards, one for each."""
    return _ask_nvidia_smi("name")


def _ask_nvidia_smi(field: str) -> tuple[str, ...]:
    """A field of each card that nvidia-smi lists; empty without it or without a card."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    command = [smi, f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) if done.returncode == 0 else ()


def find_cuda_home(env: Mapping[str, str]) -> Path | None:
    """The CUDA toolkit: a folder with bin/nvcc and include/cuda_runtime.h."""
    nvcc = shutil.which("nvcc", path=env.get("PATH", ""))
    beside_nvcc = str(Path(nvcc).resolve().parents[1]) if nvcc else None
    for candidate in (env.get("CUDA_HOME"), env.get("CUDA_PATH"), beside_nvcc, "/usr/local/cuda"):
        if candidate and all((Path(candidate) / part).exists() for part in ("bin/nvcc", "include/cuda_runtime.h")):
            return Path(candidate)
    return None


def torch_cuda_version(site: Path) -> str:
    """The CUDA version torch was built for, such as `13.0`; empty for a CPU build. Importing torch would be slow."""
    lines = (site / "torch" / "version.py").read_text().splitlines()
    value = next((line.partition("=")[2].strip() for line in lines if line.startswith("cuda")), "None")
    return "" if value == "None" else value.strip("'\"")
