"""A step of a model that is split over stages, as one member of one stage sees it.

The micro-batches of a step are dealt to the pipelines; each member does the passes of those that come its way. Members
of a group add up their gradients (`replica`), or its backups copy the leader's (`standby`), and all members of all
stages agree before anybody updates: so every stage is always at the same step. A step that fails is done again as a
whole. This module knows the arithmetic of a step; who is in which stage is told by `enter`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import torch
from torch import nn

from ft_horovod.core.config import RunConfig
from ft_horovod.core.layout import Layout
from ft_horovod.core.partition import Bounds, cut
from ft_horovod.core.pipelines import deal
from ft_horovod.core.samples import SampleOrder
from ft_horovod.core.spans import Spans
from ft_horovod.membership.board import Phase
from ft_horovod.membership.links import Links
from ft_horovod.membership.protocol import Membership
from ft_horovod.training.control import Control
from ft_horovod.training.data import DataBundle
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.loader import Loader, Part
from ft_horovod.training.rates import learning_rate
from ft_horovod.training.sgd import FlatSGD
from ft_horovod.training.speeds import Speeds
from ft_horovod.training.stages.ends import TestEnds, TrainingEnds
from ft_horovod.training.stages.net import UNITS, StageNet, measure_costs, unit_shapes
from ft_horovod.training.stages.pipeline import MicroBatch, Place, StagePasses
from ft_horovod.training.sums import Sums
from ft_horovod.training.work import SignsOfLife, StepInHand

_BUCKET_BYTES = 25 << 20
_HASH_BYTES = 32
_EVAL_BATCH = 64
_MEASURED_SAMPLES = 4
_MEASURED_TIMES = 3
EVEN_COSTS = (1.0,) * len(UNITS)


@dataclass(frozen=True)
class _Seat:
    """What holding a stage takes."""

    flat: FlatModel
    sgd: FlatSGD
    buckets: Buckets


class StageWork:
    """What a worker needs to do its part of any step, whatever stage it is in."""

    def __init__(
        self,
        config: RunConfig,
        build: Callable[[], nn.Module],
        data: DataBundle,
        membership: Membership,
        links: Links,
        signs: SignsOfLife,
    ):
        """`build` makes the whole model, the same every time."""
        self._config, self._build, self._data, self._links = config, build, data, links
        self._pulse, self._beat, self._me = signs.pulse, signs.beat, membership.me
        self.order = SampleOrder(len(data.train), config.data.batch_size, config.seed)
        self.steps = config.steps or config.epochs * self.order.steps_per_epoch
        self._sums = Sums(membership, self._beat_and_look, config.watch.stall_s)
        self._agreement = Sums(membership, self._beat, float("inf"))  # ends for all alike: nobody gives up on his own
        self._loader = Loader(data.train, self.order, signs.beat)
        self._model: nn.Module | None = build()
        self._image = (data.channels, data.image_size, data.image_size)
        self._shapes = unit_shapes(self._model, self._image)
        self.n_parameters = sum(p.numel() for p in self._model.parameters())
        self.speeds = Speeds()
        self._seats: dict[int, _Seat] = {}
        self._stage = -1
        self.held = Spans()  # a step that fails is done again as a whole

    def measure(self) -> tuple[float, ...]:
        """See `Work.measure`."""
        assert self._model is not None
        layout = self._config.layout
        nothing_to_choose = layout.stages == len(UNITS) and layout.backups is not None
        return () if nothing_to_choose else measure_costs(self._model, self._image, _MEASURED_SAMPLES, _MEASURED_TIMES)

    def warm_up(self) -> None:
        """See `Work.warm_up`."""
        assert self._model is not None
        whole = self.order.positions(0)
        measure_costs(self._model, self._image, self._config.data.micro_batch or self._usual(len(whole), 1), 1)

    # -- state ---------------------------------------------------------------------------------------------------

    def state_of(self, stage: int, costs: tuple[float, ...]) -> torch.Tensor:
        """This worker's state of a stage; fresh from the model when it never held it."""
        return self._seat(stage, costs).flat.state

    def named(self, stage: int, costs: tuple[float, ...]) -> dict[str, torch.Tensor]:
        """The same by the model's names."""
        flat = self._seat(stage, costs).flat
        return flat.named(flat.state)

    def _seat(self, stage: int, costs: tuple[float, ...]) -> _Seat:
        if stage not in self._seats:
            model = self._model or self._build()
            flat = FlatModel(StageNet(model, *self._bounds(costs)[stage]).train())
            self._watch_layers(flat.model)
            self._seats[stage] = _Seat(
                flat, FlatSGD(flat, self._config.optimizer), Buckets(flat, _BUCKET_BYTES, self._share_gradients)
            )
        return self._seats[stage]

    def _bounds(self, costs: tuple[float, ...]) -> Bounds:
        return cut(costs or EVEN_COSTS, self._config.layout.stages)

    def forget(self) -> None:
        """Nothing is kept from a step that failed."""

    def enter(self, layout: Layout, found: StepInHand, costs: tuple[float, ...]) -> None:
        """A new group holds. Nothing is kept of a step that failed: it is done again as a whole."""
        assert not found.claimed
        self._sums.forget()
        self._loader.discard()
        self.speeds.enter(self._me, layout)
        stage = layout.role(self._me)[1]
        if stage is None:
            return
        seat = self._seat(stage, costs)
        self._seats, self._model = {stage: seat}, None  # what other stages hold takes no memory here
        self._stage, self._group, self._flat = stage, layout.groups[stage].members, seat.flat
        first, stop = self._bounds(costs)[stage]
        stages = len(layout.groups)
        self._place = Place(stage, stages, self._shapes[first], self._shapes[stop], seat.flat.state.device)
        self._passes = StagePasses(seat.flat.model, self._place, self._links, self._beat, self._config.watch.stall_s)

    # -- a step --------------------------------------------------------------------------------------------------

    def compute(self, step: int, wishes: Control) -> Control:
        """Do this worker's passes of `step`, add up gradients and the control lane. Raises MembershipError."""
        whole = self.order.positions(step)
        mine = self._mine(whole)
        buckets = self._seats[self._stage].buckets
        buckets.disarm()  # a step that failed may have left it armed
        self._flat.clear()
        ends = self._ends(step, mine)
        begun = time.monotonic()
        share = sum(len(one.positions) for one in mine)

        def last_backward() -> None:
            self._flat.weigh_statistics(share / len(whole))
            buckets.arm()

        self._passes.train(mine, ends, last_backward)
        self.speeds.note(share, time.monotonic() - begun - self._passes.waited_s)
        if not mine:
            self._flat.weigh_statistics(0.0)
        buckets.flush()
        counted = msgspec.structs.replace(ends.add_to(wishes), waited_s=self._passes.waited_s)
        lane = torch.cat([counted.to_tensor(), self.speeds.lane()])
        summed = torch.zeros_like(lane)
        self._sum_all("step", lane, summed)
        self.speeds.heard(summed[Control.LENGTH :])
        return Control.from_tensor(summed[: Control.LENGTH])

    def update(self, step: int) -> float:
        """All agree that the gradients are there: take the step. Returns the learning rate."""
        rate = learning_rate(self._config.optimizer, self.order.batch, step, self.steps, self.order.steps_per_epoch)
        self._seats[self._stage].sgd.step(rate)
        self._flat.adopt_statistics()
        return rate

    def sum_up(self, name: str, mine: Control) -> Control:
        """See `Work.sum_up`; then all agree that everything is there."""
        lane = mine.to_tensor()
        summed = torch.zeros_like(lane)
        self._sum_all(name, lane, summed)
        return Control.from_tensor(summed)

    def evaluate(self) -> Control:
        """This worker's part of the evaluation. Raises MembershipError."""
        self._flat.clear()  # evaluation sees the agreed statistics
        ends = TestEnds(self._data.test)
        work = self._cut(Spans(((0, len(self._data.test)),)), _EVAL_BATCH)
        model = self._flat.model.eval()
        self._passes.infer([one for one in work if self._passes_here(one)], ends)
        model.train()
        return ends.add_to(Control())

    def weights_sha256(self) -> str:
        """See `Work.weights_sha256`: the hash over all leaders' hashes, or a member's own if its leader has others."""
        mine = self._flat.sha256()
        stages = self._place.stages
        lane = torch.zeros(stages, _HASH_BYTES, dtype=torch.float64)
        if self._group[0] == self._me:
            lane[self._stage] = torch.tensor(list(bytes.fromhex(mine)), dtype=torch.float64)
        summed = torch.zeros_like(lane)
        self._sum_all("weights", lane, summed)
        hashes = [bytes(map(round, row)).hex() for row in summed.tolist()]
        return hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes[self._stage] == mine else mine

    # -- parts of a step -----------------------------------------------------------------------------------------

    def _mine(self, whole: Spans) -> list[MicroBatch]:
        size = self._config.data.micro_batch or self._usual(len(whole), len(self._links.ways))
        return [one for one in self._cut(whole, size) if self._passes_here(one)]

    def _usual(self, samples: int, ways: int) -> int:
        """Size of a micro-batch when none is asked for: twice as many in each pipeline as there are stages."""
        return -(-samples // (2 * self._config.layout.stages * ways))

    def _cut(self, whole: Spans, size: int) -> list[MicroBatch]:
        count = -(-len(whole) // size)
        ways = deal(count, [min(map(self.speeds.weight, way.workers)) for way in self._links.ways])
        work = []
        for number, way in enumerate(ways):
            part, whole = whole.take(size)
            work.append(MicroBatch(number, way, part))
        return work

    def _passes_here(self, one: MicroBatch) -> bool:
        return self._links.ways[one.way].workers[self._stage] == self._me

    def _ends(self, step: int, mine: list[MicroBatch]) -> TrainingEnds:
        parts: list[Part] = [(step, one.positions) for one in mine]
        if step + 1 < self.steps:
            parts += [(step + 1, one.positions) for one in self._mine(self.order.positions(step + 1))[:1]]
        smoothing = self._config.optimizer.label_smoothing
        return TrainingEnds(step, parts, self._loader, self.order, self._data.train, smoothing)

    def _share_gradients(self, name: str, source: torch.Tensor, target: torch.Tensor) -> None:
        """Members' gradients are added up, or backups copy their leader's."""
        del name
        if not self._config.layout.standby:
            self._sums.begin(lambda: self._links.sum_group(source, target))
            return
        if self._group[0] == self._me:
            target.copy_(source)
        self._sums.begin(lambda: self._links.follow_leader(target))

    def _sum_all(self, name: str, source: torch.Tensor, target: torch.Tensor) -> None:
        self._pulse.enter(Phase.WAIT)
        self._sums.start(name, source, target)
        self._sums.wait()
        self._agreement.begin(self._links.agree)
        self._agreement.wait()

    def _beat_and_look(self) -> None:
        self._beat()
        self._links.check()

    def _watch_layers(self, net: nn.Module) -> None:
        """Beat at every layer with weights, forward and backward, and let messages proceed."""
        for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
            layer.register_forward_pre_hook(lambda *_: self._beat_and_look())
            layer.weight.register_post_accumulate_grad_hook(lambda _: self._beat_and_look())
