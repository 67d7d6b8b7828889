"""In which order one worker does its passes: one forward, one backward (1F1B), as soon as each can be done.

A backward pass goes first once its gradient is there; forward passes go ahead of it only so far as the stages behind
can use them. Both go in the order of the micro-batches, so that gradients are always added up in the same order. Taking
what is ready, instead of a fixed list, is what keeps pipelines of unequal groups from waiting for each other in a ring:
the micro-batch with the least number can always go on. This module decides and does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence


class Flow:
    """One worker's passes of one step."""

    def __init__(self, micro_batches: Sequence[int], stage: int, stages: int):
        """`micro_batches`: the numbers of this worker's, ascending."""
        self._numbers = tuple(micro_batches)
        self._limit = stages - stage
        self._forwards = self._backwards = 0

    @property
    def limit(self) -> int:
        """How many micro-batches this worker may have in flight: as many as there are stages from here to the end."""
        return self._limit

    @property
    def done(self) -> bool:
        return self._backwards == len(self._numbers)

    @property
    def expected(self) -> tuple[int, ...]:
        """Micro-batches whose input may come now: they fit in flight."""
        return self._numbers[self._forwards : min(self._backwards + self._limit, len(self._numbers))]

    @property
    def next_forward(self) -> int | None:
        """The next to go forward; None when there is none, or too many are in flight."""
        return next(iter(self.expected), None)

    @property
    def next_backward(self) -> int | None:
        """The next to go backward; None when none is in flight."""
        return self._numbers[self._backwards] if self._backwards < self._forwards else None

    def went_forward(self) -> None:
        self._forwards += 1

    def went_backward(self) -> None:
        self._backwards += 1
