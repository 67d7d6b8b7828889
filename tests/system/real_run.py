"""What a real run is to a test: its folder, its process, what it said."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import psutil
from safetensors.numpy import load_file

from ft_horovod.commit.inventory import on_disk
from ft_horovod.core.trace import AnyEvent
from ft_horovod.status.follow import read_trace

LIMIT_S = 240.0
STEPS = 24  # an epoch, its small last step included; with some seeds a ReLU flips on a rounding, and paths part
SAME = (
    "--model",
    "tiny",
    "--norm",
    "group",
    "--lr",
    "0.01",
    "--steps",
    str(STEPS),
    "--batch-size",
    "60",
    "--seed",
    "1",
)


@dataclass
class Run:
    """A finished run: what it said, and what its folder tells."""

    folder: Path
    code: int
    output: str

    @property
    def summary(self) -> dict[str, object]:
        return msgspec.json.decode((self.folder / "summary.json").read_bytes(), type=dict[str, object])

    @property
    def events(self) -> list[AnyEvent]:
        return read_trace(self.folder)

    def weights(self, step: int) -> dict[str, npt.NDArray[np.float32]]:
        """Weights and running statistics by name, from all shards of the newest commit, which is of this step."""
        newest = next(row for row in on_disk(self.folder / "commits", 0.0, contents=True) if row.problem is None)
        assert newest.step == step
        found: dict[str, npt.NDArray[np.float32]] = {}
        for path in (self.folder / newest.holder).glob("*.safetensors"):
            found |= load_file(path)
        return {name: tensor for name, tensor in found.items() if not name.startswith("momentum.")}


def distance(one: Run, other: Run, step: int) -> float:
    """Between the weights of two runs after `step` steps, relative to their size (Euclidean norms over all weights)."""
    a, b = one.weights(step), other.weights(step)
    assert set(a) == set(b)
    apart = sum(float(((a[name] - b[name]) ** 2).sum()) for name in a)
    return math.sqrt(apart / sum(float((a[name] ** 2).sum()) for name in a))


@dataclass
class Going:
    """A run that goes on."""

    folder: Path
    process: subprocess.Popen[str]

    def wait(self) -> Run:
        output, _ = self.process.communicate(timeout=LIMIT_S)
        return Run(self.folder, self.process.returncode, output)


def workers_of(folder: Path) -> list[psutil.Process]:
    """Processes that belong to the run in `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or []) and process.pid != os.getpid():
            found.append(process)
    return found
