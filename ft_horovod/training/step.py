"""One data-parallel step: shares dealt out, gradients summed over all members, the update.

The positions of a step are dealt to the members in order. After a failure only those are dealt out again that no
living member holds gradients of. This module knows the arithmetic of a step, not what to do when one fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ft_horovod.core.config import RunConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import Spans, share_out
from ft_horovod.membership.board import Phase
from ft_horovod.membership.protocol import Membership
from ft_horovod.training.compute import ShareWork, finish_from
from ft_horovod.training.control import Control
from ft_horovod.training.data import Batch, DataBundle, Prefetcher
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.loader import Loader
from ft_horovod.training.rates import learning_rate
from ft_horovod.training.sgd import FlatSGD
from ft_horovod.training.speeds import Speeds
from ft_horovod.training.sums import Sums
from ft_horovod.training.work import SignsOfLife, StepInHand

_BUCKET_BYTES = 25 << 20
EVAL_BATCH = 64


class StepWork:
    """What a worker needs to do its part of any step."""

    def __init__(
        self,
        config: RunConfig,
        flat: FlatModel,
        data: DataBundle,
        membership: Membership,
        signs: SignsOfLife,
    ):
        self._config, self._flat, self._me, self._test = config, flat, membership.me, data.test
        self._pulse, self._beat = signs.pulse, signs.beat
        self.order = SampleOrder(len(data.train), config.data.batch_size, config.seed)
        self.steps = config.steps or config.epochs * self.order.steps_per_epoch
        self.sums = Sums(membership, signs.beat, config.watch.stall_s)
        self._sgd = FlatSGD(flat, config.optimizer)
        self._work = ShareWork(
            flat,
            Buckets(flat, _BUCKET_BYTES, self.sums.start),
            label_smoothing=config.optimizer.label_smoothing,
            beat=signs.beat,
            broken=lambda: membership.broken_at is not None,
        )
        self._loader = Loader(data.train, self.order, signs.beat)
        self.n_parameters = flat.n_parameters
        self._members: tuple[WorkerId, ...] = ()
        self._spares = 0
        self._claimed = Spans()
        self._takers: tuple[WorkerId, ...] = ()
        self.speeds = Speeds()

    @property
    def held(self) -> Spans:
        """Positions of the step in hand whose gradients this worker has."""
        return self._work.held

    def forget(self) -> None:
        """Gradients of before are worth nothing."""
        self._work.begin(0.0)

    def warm_up(self) -> None:
        """See `Work.warm_up`."""
        data, share = self._config.data, -(-self.order.batch // self._config.layout.workers)
        count = min(data.micro_batch or share, share)
        image = self._loader.get((0, self.order.positions(0).take(1)[0]), None).images[:1]
        images = image.expand(count, *image.shape[1:]).contiguous().to(self._flat.state.device)
        self._flat.model(images).sum().backward()
        self._flat.touch()
        self._flat.clear()

    def measure(self) -> tuple[float, ...]:
        """See `Work.measure`: there is nothing to cut."""
        return ()

    def state_of(self, stage: int, costs: tuple[float, ...]) -> torch.Tensor:
        """See `Work.state_of`."""
        return self._flat.state

    def named(self, stage: int, costs: tuple[float, ...]) -> dict[str, torch.Tensor]:
        """See `Work.named`."""
        return self._flat.named(self._flat.state)

    def enter(self, layout: Layout, found: StepInHand, costs: tuple[float, ...]) -> None:
        """See `Work.enter`."""
        self._members, self._spares = layout.members, len(layout.spares)
        self._claimed, self._takers = found.claimed, found.takers
        self.speeds.enter(self._me, layout)
        self.sums.forget()
        self._loader.discard()

    def _share(self, work: Spans, takers: tuple[WorkerId, ...] = ()) -> Spans:
        """This worker's part of `work`, which all members do, or those who take it."""
        weights = [self.speeds.weight(member) if not takers or member in takers else 0.0 for member in self._members]
        return share_out(work, weights)[self._members.index(self._me)]

    def compute(self, step: int, wishes: Control) -> Control:
        """Compute this worker's gradients of `step` and sum them and the control lane. Raises MembershipError."""
        whole = self.order.positions(step)
        if not self._claimed:
            self._work.begin(finish_from(len(self._members), self._spares))
        self._work.say(wishes, self.speeds.lane())
        rest = self._share(whole - self._claimed, self._takers if self._claimed else ())
        begun, samples, whole_share = time.monotonic(), len(rest), not self._claimed
        while rest:
            part, rest = self._cut(rest)
            batch = self._load(step, part, rest)
            self._work.compute(part, batch, len(whole), last=not rest)
        if whole_share:
            self.speeds.note(samples, time.monotonic() - begun)
        self._work.hand_over(len(whole))
        self._pulse.enter(Phase.WAIT)
        self.sums.wait()
        lane = self._flat.summed_lane.cpu()
        self.speeds.heard(lane[Control.LENGTH :])
        return Control.from_tensor(lane[: Control.LENGTH])

    def update(self, step: int) -> float:
        """All sums are there: take the step. Returns the learning rate."""
        rate = learning_rate(self._config.optimizer, self.order.batch, step, self.steps, self.order.steps_per_epoch)
        self._sgd.step(rate)
        self._flat.adopt_statistics()
        self._claimed = Spans()
        self.forget()
        return rate

    def sum_up(self, name: str, mine: Control) -> Control:
        """See `Work.sum_up`."""
        lane = mine.to_tensor()
        summed = torch.zeros_like(lane)
        self._pulse.enter(Phase.WAIT)
        self.sums.start(name, lane, summed)
        self.sums.wait()
        return Control.from_tensor(summed)

    def _cut(self, work: Spans) -> tuple[Spans, Spans]:
        return work.take(self._config.data.micro_batch or len(work))

    def _load(self, step: int, part: Spans, rest: Spans) -> Batch:
        """The samples at `part` of `step`; what will be needed next, most likely, is loaded meanwhile."""
        if rest:
            return self._loader.get((step, part), (step, self._cut(rest)[0]))
        if step + 1 < self.steps:
            share = self._share(self.order.positions(step + 1))
            return self._loader.get((step, part), (step + 1, self._cut(share)[0]))
        return self._loader.get((step, part), None)

    def evaluate(self) -> Control:
        """See `Work.evaluate`: each member a share of the test set."""
        share = self._share(Spans(((0, len(self._test)),)))
        self._flat.clear()  # evaluation sees the agreed statistics
        model = self._flat.model.eval()
        with torch.inference_mode(), Prefetcher(self._test) as loader:
            correct = sum(self._correct(model, loader, part) for part in _parts(share))
        model.train()
        return Control(correct=correct, samples=len(share))

    def _correct(self, model: nn.Module, loader: Prefetcher, part: Spans) -> int:
        """How many of the test samples at `part` are told right."""
        loader.request(np.fromiter(part, np.int64), 0)
        batch = loader.get(self._beat)
        return int((model(batch.images.to(self._flat.state.device)).argmax(1).cpu() == batch.labels).sum())

    def weights_sha256(self) -> str:
        """See `Work.weights_sha256`."""
        return self._flat.sha256()


def _parts(share: Spans) -> Iterator[Spans]:
    """A share in batches fit for evaluation."""
    while share:
        part, share = share.take(EVAL_BATCH)
        yield part
