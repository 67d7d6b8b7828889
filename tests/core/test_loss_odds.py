"""How likely a loss takes every copy: the counts against going through all cases, and against Gemini's formula."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.loss_odds import odds, scheme_odds
from ft_horovod.core.placement import Scheme, placed
from simulator.closed_forms import gemini_survival

SCHEMES: tuple[Scheme, ...] = ("group", "ring")


@pytest.mark.parametrize("scheme", SCHEMES)
@given(st.integers(1, 11), st.integers(1, 5), st.data())
def test_counting_agrees_with_going_through_all(scheme: Scheme, places: int, copies: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, places))
    held = [placed(place, places, copies, scheme) for place in range(places)]
    assert scheme_odds(places, copies, lost, scheme) == pytest.approx(odds(held, places, lost))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_certain(scheme: Scheme) -> None:
    assert scheme_odds(8, 2, 0, scheme) == 0
    assert scheme_odds(8, 2, 1, scheme) == 0
    assert scheme_odds(8, 2, 8, scheme) == 1
    assert scheme_odds(8, 1, 1, scheme) == 1


def test_two_of_four() -> None:
    assert scheme_odds(4, 2, 2, "group") == pytest.approx(2 / 6)
    assert scheme_odds(4, 2, 2, "ring") == pytest.approx(4 / 6)
    assert odds([(0, 1), (1, 0)], 4, 2) == pytest.approx(1 / 6)
    assert odds([], 4, 2) == 0


@pytest.mark.parametrize(("machines", "replicas", "lost"), [(16, 2, 2), (16, 2, 3), (16, 4, 6), (1000, 2, 3)])
def test_groups_are_as_gemini_says(machines: int, replicas: int, lost: int) -> None:
    """Its corollary 1 is exact for fewer than twice as many losses as copies."""
    expected = 1 - gemini_survival(machines, replicas, lost)
    assert scheme_odds(machines, replicas, lost, "group") == pytest.approx(expected)


@given(st.integers(2, 20), st.integers(2, 4), st.data())
def test_more_losses_are_no_better(places: int, copies: int, data: st.DataObject) -> None:
    scheme = data.draw(st.sampled_from(SCHEMES))
    chances = [scheme_odds(places, copies, lost, scheme) for lost in range(places + 1)]
    assert all(earlier <= later + 1e-12 for earlier, later in pairwise(chances))


@given(st.integers(4, 40), st.data())
def test_groups_are_never_worse_than_a_ring(places: int, data: st.DataObject) -> None:
    copies = data.draw(st.sampled_from([n for n in (2, 3, 4) if places % n == 0] or [2]))
    lost = data.draw(st.integers(0, places))
    assert scheme_odds(places, copies, lost, "group") <= scheme_odds(places, copies, lost, "ring") + 1e-12


def test_too_many_ways() -> None:
    with pytest.raises(ValueError, match="20 of 100 places can be lost in too many ways"):
        odds([(0, 1)], 100, 20)
    with pytest.raises(ValueError, match="5 of 4 places cannot be lost"):
        scheme_odds(4, 2, 5, "ring")
    with pytest.raises(ValueError, match="copies is 0, expected 1 or more"):
        scheme_odds(4, 0, 2, "ring")
    assert math.comb(100, 20) > 1e20
