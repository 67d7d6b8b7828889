"""One way of keeping the state, in a process of its own: what `commit.py` starts again and again.

    python benchmarks/commit_once.py "torch.save" FOLDER RESULT.json --saves 4

Trains, commits, trains on while the commit is being written, forgets everything, restores; the restored state must be
that of the commit, bit for bit. The first commit, which makes room for the others, is told apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import msgspec
from commit_arm import ArmKind, Saved, TrainingState
from commit_baselines import BASELINES
from commit_tiers import TIERS
from common import BenchError

QUIET_STEPS = 6
ARMS: dict[str, ArmKind] = {kind.name: kind for kind in (*BASELINES, *TIERS)}


class Once(msgspec.Struct, frozen=True, kw_only=True):
    """What one process found. `drag_s` of a commit: by how much the steps meanwhile took longer than quiet ones."""

    step_s: float
    state_bytes: int
    first: Saved
    saves: list[Saved]
    drag_s: list[float]
    restore_s: float
    extra_bytes: int  # by how much the process grew beyond its size in training, at most


class Stopwatch:
    """Runs steps of training and keeps how long each took."""

    def __init__(self, state: TrainingState):
        self._state = state
        self.took_s: list[float] = []

    def step(self) -> None:
        begun = time.monotonic()
        self._state.step()
        self.took_s.append(time.monotonic() - begun)


def measure(kind: ArmKind, folder: Path, saves: int) -> Once:
    """Raises BenchError when the restored state is not that of the commit."""
    state = TrainingState(flat=kind.flat)
    _reset_peak()
    quiet = Stopwatch(state)
    for _ in range(QUIET_STEPS):
        quiet.step()
    step_s = statistics.median(quiet.took_s[1:])
    before_bytes = _peak_bytes()
    _reset_peak()
    arm = kind.make(folder)
    kept: list[Saved] = []
    drag_s: list[float] = []
    for _ in range(saves):
        expected = state.digest()
        meanwhile = Stopwatch(state)
        kept.append(arm.save(state, meanwhile.step))
        drag_s.append(sum(meanwhile.took_s) - step_s * len(meanwhile.took_s))
        quiet.step()
    extra_bytes = max(0, _peak_bytes() - before_bytes)
    state.wipe()
    restore_s = arm.restore(state)
    if state.digest() != expected:
        raise BenchError(f"{kind.name}: the restored state is not that of the commit")
    arm.close()
    return Once(
        step_s=step_s,
        state_bytes=state.size_bytes,
        first=kept[0],
        saves=kept[1:],
        drag_s=drag_s[1:],
        restore_s=restore_s,
        extra_bytes=extra_bytes,
    )


def _reset_peak() -> None:
    """From now on the kernel counts the peak anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--saves", type=int, default=4)
    options = parser.parse_args()
    once = measure(ARMS[options.arm], options.folder, options.saves)
    options.result.write_bytes(msgspec.json.encode(once))


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(str(error))
