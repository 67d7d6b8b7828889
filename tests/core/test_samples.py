"""Every sample exactly once an epoch, and the proof of it."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.samples import MAX_BATCH, SampleLedger, SampleOrder, digest
from ft_horovod.core.spans import Spans, share_out

orders = st.builds(SampleOrder, samples=st.integers(1, 300), batch=st.integers(1, 400), seed=st.integers(0, 2**64))
indices = st.lists(st.integers(0, 2**40), min_size=1, max_size=50)
_MASK = (1 << 64) - 1


def array(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def splitmix_31(index: int) -> int:
    """SplitMix64's finaliser in Python's own integers, its upper 31 bits."""
    x = (index + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) >> 33


@given(orders, st.integers(0, 5))
def test_every_sample_is_used_exactly_once_an_epoch(order: SampleOrder, epoch: int) -> None:
    steps = range(epoch * order.steps_per_epoch, (epoch + 1) * order.steps_per_epoch)
    assert {order.epoch(step) for step in steps} == {epoch}
    used = np.concatenate([order.indices(epoch, order.positions(step)) for step in steps])
    assert used.dtype == np.int64
    assert sorted(used.tolist()) == list(range(order.samples))


@given(orders)
def test_all_steps_but_the_last_of_an_epoch_are_full(order: SampleOrder) -> None:
    sizes = [len(order.positions(step)) for step in range(order.steps_per_epoch)]
    assert sizes[:-1] == [order.batch] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= order.batch
    assert order.positions(order.steps_per_epoch) == order.positions(0)


@given(orders, st.integers(0, 50), st.lists(st.floats(0, 10), min_size=1, max_size=6).filter(any))
def test_shares_digests_add_up_to_the_steps(order: SampleOrder, step: int, weights: list[float]) -> None:
    shares = share_out(order.positions(step), weights)
    assert sum(digest(order.indices(order.epoch(step), share)) for share in shares) == order.expected(step)


def test_epochs_and_seeds_shuffle_differently() -> None:
    order, everything = SampleOrder(1000, 10, 7), Spans.of([(0, 1000)])
    first = order.indices(0, everything)
    assert np.array_equal(first, SampleOrder(1000, 10, 7).indices(0, everything))
    assert np.array_equal(first, SampleOrder(1000, 64, 7).indices(0, everything)), "the batch does not change the order"
    assert not np.array_equal(first, order.indices(1, everything))
    assert not np.array_equal(first, SampleOrder(1000, 10, 8).indices(0, everything))
    assert not np.array_equal(first, np.arange(1000))


def test_indices_are_the_callers_own() -> None:
    order = SampleOrder(100, 10, 3)
    order.indices(0, Spans.of([(0, 100)]))[:] = 0
    assert sorted(order.indices(0, Spans.of([(0, 100)])).tolist()) == list(range(100))
    assert order.indices(0, Spans()).tolist() == []


@pytest.mark.parametrize(
    ("samples", "batch", "seed"), [(0, 1, 0), (-1, 1, 0), (5, 0, 0), (5, -1, 0), (5, MAX_BATCH, 0), (5, 1, -1)]
)
def test_orders_without_a_meaning_are_refused(samples: int, batch: int, seed: int) -> None:
    with pytest.raises(ValueError, match="samples must be at least 1, batch in"):
        SampleOrder(samples, batch, seed)


@given(indices)
def test_the_digest_is_the_published_hash(values: list[int]) -> None:
    assert digest(array(values)) == sum(map(splitmix_31, values))


def test_the_largest_batch_stays_exact_in_float64() -> None:
    largest_hash = (1 << 31) - 1
    assert all(0 <= digest(array([i])) <= largest_hash for i in (*range(1000), 2**62, -1))
    assert (MAX_BATCH - 1) * largest_hash < 2**53
    assert SampleOrder(10**9, MAX_BATCH - 1, 0).batch == MAX_BATCH - 1
    total = digest(np.arange(MAX_BATCH - 1, dtype=np.int64))
    assert int(float(total)) == total
    assert digest(array([])) == 0


@given(indices, st.data())
def test_a_sample_lost_repeated_or_exchanged_changes_the_digest(values: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.integers(0, 2**40).filter(lambda i: i != values[at]))
    right = digest(array(values))
    assert digest(array(values[:at] + values[at + 1 :])) != right
    assert digest(array([*values, values[at]])) != right
    assert digest(array([*values[:at], other, *values[at + 1 :]])) != right


@given(indices, st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_order(values: list[int], rng: random.Random) -> None:
    shuffled = rng.sample(values, len(values))
    assert digest(array(shuffled)) == digest(array(values))


def test_neighbouring_indices_have_different_hashes() -> None:
    hashes = {digest(array([i])) for i in range(20_000)}
    assert len(hashes) >= 19_998  # 20,000 draws of 31 bits: 0.1 collisions are to be expected
    assert 0 not in hashes


@given(orders, st.integers(1, 30))
def test_a_clean_run_is_exact(order: SampleOrder, steps: int) -> None:
    ledger = SampleLedger()
    for step in range(steps):
        ledger = ledger.book(order, step, len(order.positions(step)), order.expected(step))
    whole, rest = divmod(steps, order.steps_per_epoch)
    assert ledger == SampleLedger(steps, whole * order.samples + min(rest * order.batch, order.samples), True)


@pytest.mark.parametrize(
    ("step", "more_samples", "more_digest"),
    [(4, 0, 0), (2, 0, 0), (3, 1, 0), (3, -1, 0), (3, 0, 1)],
    ids=["step skipped", "step repeated", "sample too many", "sample too few", "other samples"],
)
def test_a_wrong_step_is_never_forgotten(step: int, more_samples: int, more_digest: int) -> None:
    order = SampleOrder(100, 10, 5)
    ledger = SampleLedger(3, 30, True)
    ledger = ledger.book(order, step, 10 + more_samples, order.expected(step) + more_digest)
    assert ledger == SampleLedger(4, 40 + more_samples, False)
    assert not ledger.book(order, 4, 10, order.expected(4)).exact
