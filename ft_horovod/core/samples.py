"""Which samples a step uses, and the proof that every sample was used exactly once.

Step k of an epoch covers fixed positions of a seeded permutation, whoever lives. What the workers really loaded is
proven, not assumed: each adds the digests of the samples it loaded to a number that is summed over all workers with the
gradients, and the sum must be that of the step's positions.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from ft_horovod.core.spans import Spans

Indices = npt.NDArray[np.int64]

_DIGEST_BITS = 31
MAX_BATCH = 1 << (53 - _DIGEST_BITS)  # sums of digests stay exact in float64


class SampleOrder(msgspec.Struct, frozen=True):
    """The order in which a run uses its samples: a fresh permutation each epoch, cut into steps of `batch`.

    The last step of an epoch is smaller when `batch` does not divide `samples`; nothing is dropped or repeated.
    """

    samples: int
    batch: int
    seed: int

    def __post_init__(self) -> None:
        if self.samples < 1 or not 1 <= self.batch < MAX_BATCH or self.seed < 0:
            raise ValueError(f"samples must be at least 1, batch in [1, {MAX_BATCH}), seed not negative: {self}")

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.samples // self.batch)

    def epoch(self, step: int) -> int:
        """The data epoch that `step`, counted from 0 over the whole run, lies in."""
        return step // self.steps_per_epoch

    def positions(self, step: int) -> Spans:
        """The positions in its epoch's permutation that `step` covers."""
        first = step % self.steps_per_epoch * self.batch
        return Spans(((first, min(first + self.batch, self.samples)),))

    def indices(self, epoch: int, positions: Spans) -> Indices:
        """The samples at these positions, int64 `[len(positions)]`."""
        order = _permutation(self.samples, self.seed, epoch)
        parts = [order[start:stop] for start, stop in positions.intervals]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def expected(self, step: int) -> int:
        """The digest that the samples of `step` must add up to."""
        return digest(self.indices(self.epoch(step), self.positions(step)))


@lru_cache(maxsize=2)
def _permutation(samples: int, seed: int, epoch: int) -> Indices:
    return np.random.default_rng((seed, epoch)).permutation(samples).astype(np.int64)


def digest(indices: Indices) -> int:
    """Sum of a 31-bit hash (SplitMix64's finaliser) of each index: below 2**53 for any batch, so exact in float64.

    A sample lost, repeated or exchanged changes it, but for odds of one in two billion.
    """
    x = np.asarray(indices, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(((x ^ (x >> np.uint64(31))) >> np.uint64(64 - _DIGEST_BITS)).sum())


class SampleLedger(msgspec.Struct, frozen=True):
    """What was really used, step by step; travels with the model's state."""

    steps: int = 0
    samples: int = 0
    exact: bool = True

    def book(self, order: SampleOrder, step: int, samples: int, digest_sum: int) -> SampleLedger:
        """Add one finished step: how many samples entered the update, and their digests' sum."""
        as_planned = step == self.steps and samples == len(order.positions(step)) and digest_sum == order.expected(step)
        return SampleLedger(self.steps + 1, self.samples + samples, self.exact and as_planned)
