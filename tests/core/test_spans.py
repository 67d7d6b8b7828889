"""Spans against Python's sets, and the sharing of work against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.spans import Spans, share_out

bounds = st.integers(-40, 40)
intervals = st.lists(st.tuples(bounds, bounds), max_size=8)
spans = intervals.map(Spans.of)
finite = st.floats(0, 1e300, allow_nan=False) | st.integers(0, 10**6)
weights = st.lists(finite, min_size=1, max_size=8).filter(any)


@given(intervals)
def test_of_is_the_union_of_its_intervals(pairs: list[tuple[int, int]]) -> None:
    union = {i for start, stop in pairs for i in range(start, stop)}
    made = Spans.of(pairs)
    assert list(made) == sorted(union)
    assert len(made) == len(union)
    assert bool(made) == bool(union)
    assert Spans(made.intervals) == made, "what `of` makes passes the constructor's checks"


@given(spans, spans)
def test_algebra_is_that_of_sets(a: Spans, b: Spans) -> None:
    assert set(a | b) == set(a) | set(b)
    assert set(a - b) == set(a) - set(b)
    assert set(a & b) == set(a) & set(b)


@given(spans, spans)
def test_equal_sets_are_equal_spans(a: Spans, b: Spans) -> None:
    assert (a == b) == (set(a) == set(b))
    assert (a - b) | (a & b) == a
    assert hash((a - b) | (a & b)) == hash(a)


@given(spans, st.integers(-5, 100))
def test_take_cuts_once(work: Spans, count: int) -> None:
    head, tail = work.take(count)
    elements = list(work)
    assert list(head) == elements[: max(count, 0)]
    assert list(tail) == elements[max(count, 0) :]


@pytest.mark.parametrize(
    "wrong",
    [((3, 3),), ((4, 3),), ((0, 2), (2, 4)), ((0, 3), (2, 4)), ((5, 6), (0, 1)), ((0, 1), (0, 1))],
    ids=["empty", "backwards", "touching", "overlapping", "unsorted", "repeated"],
)
def test_only_canonical_intervals_are_spans(wrong: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="not sorted, disjoint and non-empty"):
        Spans(wrong)


@given(spans, weights)
def test_shares_partition_the_work_in_order(work: Spans, asked: list[float]) -> None:
    shares = share_out(work, asked)
    assert len(shares) == len(asked)
    assert [i for share in shares for i in share] == list(work)


@given(spans, weights)
def test_shares_are_within_one_of_what_the_weights_ask(work: Spans, asked: list[float]) -> None:
    total = sum(map(Fraction, asked))
    for share, weight in zip(share_out(work, asked), asked, strict=True):
        assert abs(len(share) - len(work) * Fraction(weight) / total) < 1
        assert weight or not share, "who has weight zero gets nothing"


@given(spans, weights)
def test_a_larger_weight_never_gets_less(work: Spans, asked: list[float]) -> None:
    sizes = [len(share) for share in share_out(work, asked)]
    for i, size in enumerate(sizes):
        assert all(size >= sizes[j] for j in range(len(sizes)) if asked[i] > asked[j])
        assert all(size >= sizes[j] for j in range(i, len(sizes)) if asked[i] == asked[j]), "ties go to the earlier"


@given(spans, st.integers(1, 12))
def test_equal_weights_differ_by_one_and_the_larger_come_first(work: Spans, workers: int) -> None:
    sizes = [len(share) for share in share_out(work, [0.1] * workers)]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


@given(spans, weights, st.sampled_from([0.25, 2, 3, 1000]))
def test_only_the_ratio_of_weights_counts(work: Spans, asked: list[float], factor: float) -> None:
    whole = [int(weight) + 1 for weight in asked]
    assert share_out(work, whole) == share_out(work, [float(weight * Fraction(factor)) for weight in whole])


@pytest.mark.parametrize(
    ("count", "asked", "sizes"),
    [
        (10, [1, 1, 1], [4, 3, 3]),
        (2, [1, 1, 1], [1, 1, 0]),
        (0, [1, 2], [0, 0]),
        (7, [0, 1, 0], [0, 7, 0]),
        (10, [1, 2, 7], [1, 2, 7]),
        (64, [1.0, 0.5, 1.0], [26, 13, 25]),
        (1, [0.0, 1e-300], [0, 1]),
        (100, [1e308, 1e308], [50, 50]),  # their sum is no float any more
        (10, [10**400, 10**400], [5, 5]),
        (3 * 10**18 + 1, [1, 1, 1], [10**18 + 1, 10**18, 10**18]),  # nor are these whole numbers
        (10**18, [0.1, 0.2, 0.7], None),
    ],
)
def test_shares_by_example(count: int, asked: list[float], sizes: list[int] | None) -> None:
    shares = share_out(Spans.of([(0, count)]), asked)
    assert sum(map(len, shares)) == count
    assert sizes is None or [len(share) for share in shares] == sizes


def test_shares_of_what_a_failure_left_over() -> None:
    left = Spans.of([(2, 4), (10, 13)])
    assert share_out(left, [1, 1]) == (Spans.of([(2, 4), (10, 11)]), Spans.of([(11, 13)]))


@pytest.mark.parametrize("asked", [[], [0, 0.0], [1, -1], [-0.5], [1, float("nan")], [float("inf"), 1]])
def test_weights_without_a_meaning_are_refused(asked: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite, non-negative and not all zero"):
        share_out(Spans.of([(0, 4)]), asked)
