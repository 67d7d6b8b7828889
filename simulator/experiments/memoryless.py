"""The vectorised path: exponential failures of the whole job, a constant outage, back to the newest commit.

Thousands of runs at once as arrays of [runs, failures]. Valid where nothing has a memory: one failure rate, restarts
that begin anew when they are struck, no waiting for nodes. tests/simulator holds it against the kernel and Daly's form.
Knows arrays; knows no policies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_CELLS = 2_000_000  # of one array: about 16 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Memoryless:
    """All times in seconds. Ends after `work_s` of work, or after `wall_s`; exactly one is given."""

    mtbf_s: float
    outage_s: float  # from a failure until work goes on, when nothing strikes meanwhile
    interval_s: float
    stall_s: float
    work_s: float | None = None
    wall_s: float | None = None

    def __post_init__(self) -> None:
        if (self.work_s is None) == (self.wall_s is None):
            raise ValueError("exactly one of work_s and wall_s")


@dataclass(frozen=True, slots=True)
class Totals:
    """Of each run, shape [runs], in seconds; the parts add up to `wall_s`."""

    wall_s: Floats
    useful_s: Floats
    stall_s: Floats
    redone_s: Floats
    outage_s: Floats
    failures: NDArray[np.int64]


def simulate(model: Memoryless, runs: int, rng: np.random.Generator) -> Totals:
    """`runs` independent runs. Raises ValueError when the work would take more than 10 million failures a run."""
    count = _enough(model)
    rows = max(1, int(_CELLS // count))
    blocks, done = [], 0
    while done < runs:
        block = _block(model, min(rows, runs - done), count, rng)
        if block is None:  # one run had more failures than there was room for
            count *= 2
            rows = max(1, int(_CELLS // count))
            continue
        blocks.append(block)
        done += len(block.wall_s)
    return Totals(*(np.concatenate([getattr(block, name) for block in blocks]) for name in Totals.__slots__))


def _enough(model: Memoryless) -> int:
    """Room for the failures of nearly every run: the expected number and ten standard deviations."""
    if model.wall_s is not None:
        expected = model.wall_s / model.mtbf_s
    else:
        cycle_s, work_s = model.interval_s + model.stall_s, model.work_s or 0.0
        expected = np.exp(model.outage_s / model.mtbf_s) * np.expm1(cycle_s / model.mtbf_s) * work_s / model.interval_s
    if not expected < 1e7:
        raise ValueError("the work cannot be done: failures undo it faster than it is done")
    return int(expected + 10 * expected**0.5 + 20)


def _block(model: Memoryless, runs: int, count: int, rng: np.random.Generator) -> Totals | None:
    gaps_s = rng.exponential(model.mtbf_s, (runs, count))
    down_s = np.minimum(gaps_s, model.outage_s)
    down_s[:, 0] = 0.0  # a run begins at work
    up_s = gaps_s - down_s
    cycle_s = model.interval_s + model.stall_s
    if model.work_s is not None:
        kept_s = np.floor(up_s / cycle_s) * model.interval_s
        before_s = np.cumsum(kept_s, axis=1) - kept_s
        # What a stretch must last to finish: the cycles, the rest, and a last commit.
        left_s = np.maximum(model.work_s - before_s, 0.0)
        full = np.ceil(left_s / model.interval_s) - 1
        need_s = np.where(left_s > 0, left_s + (full + 1) * model.stall_s, 0.0)
        ends = up_s >= need_s
    else:
        start_s = np.cumsum(gaps_s, axis=1) - gaps_s
        need_s = np.maximum((model.wall_s or 0.0) - start_s - down_s, 0.0)
        ends = start_s + gaps_s >= (model.wall_s or 0.0)
        down_s = np.minimum(down_s, np.maximum((model.wall_s or 0.0) - start_s, 0.0))
    if not ends.any(axis=1).all():
        return None
    last = ends.argmax(axis=1)
    row = np.arange(runs)
    before = np.arange(count)[None, :] < last[:, None]
    up_last_s = need_s[row, last]
    kept = np.where(before, np.floor(up_s / cycle_s), 0).sum(axis=1)
    rest_s = np.where(before, up_s % cycle_s, 0.0)
    if model.work_s is not None:
        useful_s = np.full(runs, model.work_s)
        last_stall_s = up_last_s - (model.work_s - kept * model.interval_s)
    else:
        cycles = np.floor(up_last_s / cycle_s)
        last_useful_s = cycles * model.interval_s + np.minimum(up_last_s - cycles * cycle_s, model.interval_s)
        useful_s, last_stall_s = kept * model.interval_s + last_useful_s, up_last_s - last_useful_s
    redone_s = np.minimum(rest_s, model.interval_s).sum(axis=1)
    stall_s = kept * model.stall_s + np.maximum(rest_s - model.interval_s, 0.0).sum(axis=1) + last_stall_s
    outage_s = np.where(before, down_s, 0.0).sum(axis=1) + down_s[row, last]
    return Totals(useful_s + redone_s + stall_s + outage_s, useful_s, stall_s, redone_s, outage_s, last)
