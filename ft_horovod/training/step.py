"""One data-parallel step: shares dealt out, gradients summed over all members, the update.

The positions of a step are dealt to the members in order. After a failure only those are dealt out again that no
living member holds gradients of. This module knows the arithmetic of a step, not what to do when one fails.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ft_horovod.core.config import RunConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import Spans, share_out
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.protocol import Membership
from ft_horovod.training.compute import ShareWork, finish_from
from ft_horovod.training.control import Control
from ft_horovod.training.data import Batch, Prefetcher, Source
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.rates import learning_rate
from ft_horovod.training.sums import Sums

_BUCKET_BYTES = 25 << 20


class StepWork:
    """What a worker needs to do its part of any step."""

    def __init__(
        self,
        config: RunConfig,
        flat: FlatModel,
        train: Source,
        membership: Membership,
        pulse: Pulse,
        beat: Callable[[], None],
    ):
        """`beat` is called at every layer and every poll; `pulse` is told the phases."""
        self._config, self._flat, self._pulse, self._me = config, flat, pulse, membership.me
        self._beat = beat
        self.order = SampleOrder(len(train), config.data.batch_size, config.seed)
        self.steps = config.steps or config.epochs * self.order.steps_per_epoch
        self.sums = Sums(membership, beat, config.watch.stall_s)
        optimizer = config.optimizer
        self._sgd = flat.optimizer(optimizer.momentum, optimizer.weight_decay, nesterov=optimizer.nesterov)
        self._work = ShareWork(
            flat,
            Buckets(flat, _BUCKET_BYTES, self.sums.start),
            label_smoothing=optimizer.label_smoothing,
            beat=beat,
            broken=lambda: membership.broken_at is not None,
        )
        self._prefetch = Prefetcher(train)
        self._asked: tuple[int, Spans] | None = None  # the step and positions that are being loaded
        self._members: tuple[WorkerId, ...] = ()
        self._spares = 0
        self._claimed = Spans()

    @property
    def held(self) -> Spans:
        """Positions of the step in hand whose gradients this worker has."""
        return self._work.held

    def forget(self) -> None:
        """Gradients of before are worth nothing."""
        self._work.begin(0.0)

    def enter(self, layout: Layout, claimed: Spans) -> None:
        """A new group holds; its members hold gradients of the `claimed` positions of the step in hand."""
        self._members, self._spares, self._claimed = layout.members, len(layout.spares), claimed
        self.sums.forget()
        self._prefetch.discard()
        self._asked = None

    def share(self, work: Spans) -> Spans:
        """This worker's part of `work`."""
        return share_out(work, [1.0] * len(self._members))[self._members.index(self._me)]

    def gradients(self, step: int) -> Control:
        """Compute this worker's gradients of `step` and start summing them. Raises WorkersLost.

        Returns this worker's books of the samples it used.
        """
        whole = self.order.positions(step)
        if not self._claimed:
            self._work.begin(finish_from(len(self._members), self._spares))
        rest = self.share(whole - self._claimed)
        while rest:
            part, rest = self._cut(rest)
            batch = self._load(step, part, rest)
            self._work.compute(part, batch, len(whole), last=not rest)
        self._work.hand_over(len(whole))
        return self._work.booked

    def update(self, step: int) -> float:
        """All sums are there: take the step. Returns the learning rate."""
        rate = learning_rate(self._config.optimizer, self.order.batch, step, self.steps, self.order.steps_per_epoch)
        self._sgd.param_groups[0]["lr"] = rate
        self._sgd.step()
        self._flat.adopt_statistics()
        self._claimed = Spans()
        self.forget()
        return rate

    def sum_up(self, name: str, mine: Control) -> Control:
        """Sum the control lane, and wait for it and for everything that is being summed. Raises MembershipError."""
        summed = torch.zeros(len(mine.to_tensor()), dtype=torch.float64)
        self._pulse.enter(Phase.WAIT)
        self.sums.start(name, mine.to_tensor(), summed)
        self.sums.wait()
        return Control.from_tensor(summed)

    def _cut(self, work: Spans) -> tuple[Spans, Spans]:
        return work.take(self._config.data.micro_batch or len(work))

    def _load(self, step: int, part: Spans, rest: Spans) -> Batch:
        """The samples at `part` of `step`; what will be needed next, most likely, is loaded meanwhile."""
        if self._asked != (step, part):
            self._prefetch.discard()
            self._ask(step, part)
        batch = self._prefetch.get(self._beat)
        self._asked = None
        if rest:
            self._ask(step, self._cut(rest)[0])
        elif step + 1 < self.steps:
            share = self.share(self.order.positions(step + 1))
            if share:
                self._ask(step + 1, self._cut(share)[0])
        return batch

    def _ask(self, step: int, part: Spans) -> None:
        epoch = self.order.epoch(step)
        self._prefetch.request(self.order.indices(epoch, part), epoch)
        self._asked = (step, part)
