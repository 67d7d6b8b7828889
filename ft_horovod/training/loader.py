"""Loads the parts of steps; what will be needed next, most likely, is loaded meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import Spans
from ft_horovod.training.prefetch import Prefetcher
from ft_horovod.training.sources import Batch, Source

Part = tuple[int, Spans]  # a step and positions of it


class Loader:
    """One worker's samples."""

    def __init__(self, source: Source, order: SampleOrder, beat: Callable[[], None]):
        """`beat` is called while it waits."""
        self._order, self._beat = order, beat
        self._prefetch = Prefetcher(source)
        self._asked: Part | None = None

    def get(self, part: Part, then: Part | None) -> Batch:
        """The samples of `part`; those of `then` are asked for."""
        if self._asked != part:
            self.discard()
            self._ask(part)
        batch = self._prefetch.get(self._beat)
        self._asked = None
        if then is not None and then[1]:
            self._ask(then)
        return batch

    def discard(self) -> None:
        """Forget what was asked for: the shares have changed."""
        self._prefetch.discard()
        self._asked = None

    def _ask(self, part: Part) -> None:
        step, positions = part
        epoch = self._order.epoch(step)
        self._prefetch.request(self._order.indices(epoch, positions), epoch)
        self._asked = part
