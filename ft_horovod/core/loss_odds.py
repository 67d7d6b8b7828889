"""How likely it is that so many places, lost at once, take every copy of some state with them.

All of it is exact: counted, not drawn, and every set of lost places is taken to be as likely as any other. Knows places
by number, as `placement` gives them; knows nothing of how often places are lost.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from itertools import combinations

from ft_horovod.core.placement import Scheme, grouped_places

_MOST_SETS = 200_000_000


def scheme_odds(places: int, copies: int, lost: int, scheme: Scheme) -> float:
    """The chance for Gemini's placements, by counting the sets of lost places that spare a holder of every state."""
    _check(places, lost)
    if copies < 1:
        raise ValueError(f"copies is {copies}, expected 1 or more")
    grouped = grouped_places(places, copies) if scheme == "group" else 0
    group = [math.comb(copies, k) for k in range(copies)]  # all but the one set that is the whole group
    harmless = _product([group] * (grouped // copies) + [_ring_harmless(places - grouped, copies)])
    spared = harmless[lost] if lost < len(harmless) else 0
    return 1 - spared / math.comb(places, lost)


def odds(holders: Iterable[Collection[int]], places: int, lost: int) -> float:
    """The chance for any placement, by going through all sets of `lost` of the `places`.

    `holders` are the places that hold one state, for each state. Raises ValueError when there are too many sets.
    """
    _check(places, lost)
    doomed = {mask for held in holders if len(set(held)) <= lost for mask in [sum(1 << place for place in set(held))]}
    if math.comb(places, lost) * len(doomed) > _MOST_SETS:
        raise ValueError(f"{lost} of {places} places can be lost in too many ways to go through")
    bits = [1 << place for place in range(places)]
    fatal = sum(
        any(mask & gone == mask for mask in doomed) for chosen in combinations(bits, lost) for gone in [sum(chosen)]
    )
    return fatal / math.comb(places, lost)


def _ring_harmless(places: int, copies: int) -> list[int]:
    """How many sets of k places on a ring have no `copies` in a row, for each k.

    The z places that live leave z gaps with fewer than `copies` in each; each of these circles is counted from z of
    its places instead of from all.
    """
    if places == 0:
        return [1]
    copies = min(copies, places)
    found = [1]
    for lost in range(1, places):
        living = places - lost
        gaps = _product([[1] * copies] * living)
        found.append(places * gaps[lost] // living if lost < len(gaps) else 0)
    return found


def _product(factors: Iterable[list[int]]) -> list[int]:
    """The product of polynomials, given by their coefficients."""
    product = [1]
    for factor in factors:
        longer = [0] * (len(product) + len(factor) - 1)
        for i, a in enumerate(product):
            for j, b in enumerate(factor):
                longer[i + j] += a * b
        product = longer
    return product


def _check(places: int, lost: int) -> None:
    if not 0 <= lost <= places:
        raise ValueError(f"{lost} of {places} places cannot be lost")
