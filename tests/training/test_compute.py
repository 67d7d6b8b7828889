"""A worker's share of a step: what survives when it is cut short, and that the sum is the same in the end."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ft_horovod.core.config import ModelConfig
from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.samples import digest
from ft_horovod.core.spans import Spans
from ft_horovod.training.compute import ShareWork, finish_from
from ft_horovod.training.flat import Buckets, FlatModel
from ft_horovod.training.models import build_model
from ft_horovod.training.sources import Batch, Look, SyntheticSource

STEP = 12
SOURCE = SyntheticSource(STEP, 0, Look(size=16, mean=(0.0,) * 3, std=(1.0,) * 3))


def batch(positions: Spans) -> Batch:
    return SOURCE.batch(torch.tensor(list(positions)).numpy(), 0)


class Bench:
    """A share's work whose peers die at a chosen beat of a layer."""

    def __init__(self, norm: str = "group", finish_at: float = 0.0):
        config = ModelConfig(name="tiny", norm=norm)  # type: ignore[arg-type]
        self.model: nn.Module = build_model(config, 10, 3, seed=1).train()
        self.flat = FlatModel(self.model)
        self.beats, self.dies_at = 0, 10**9
        self.sums: list[str] = []
        buckets = Buckets(self.flat, 1 << 20, lambda name, *_: self.sums.append(name))
        self.work = ShareWork(
            self.flat, buckets, label_smoothing=0.0, beat=self._beat, broken=lambda: self.beats >= self.dies_at
        )
        self.work.begin(finish_at)

    def _beat(self) -> None:
        self.beats += 1

    def compute(self, first: int, stop: int, *, last: bool = False) -> None:
        span = Spans(((first, stop),))
        self.work.compute(span, batch(span), STEP, last=last)

    def gradients(self) -> torch.Tensor:
        return self.flat.grad[: self.flat.n_parameters].clone()


def test_micro_batches_add_up_to_the_whole() -> None:
    whole, parts = Bench(), Bench()
    whole.compute(0, STEP, last=True)
    for first, stop in ((0, 5), (5, 6), (6, STEP)):
        parts.compute(first, stop, last=stop == STEP)
    apart = (parts.gradients() - whole.gradients()).norm() / whole.gradients().norm()
    assert apart < 1e-5
    assert parts.work.held == Spans(((0, STEP),))
    assert parts.work.booked.samples == STEP
    assert parts.work.booked.digest == digest(batch(Spans(((0, STEP),))).indices)
    assert parts.work.booked.loss == pytest.approx(whole.work.booked.loss, rel=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_forward_pass_cut_short_leaves_no_trace(norm: str) -> None:
    cut, calm = Bench(norm, finish_at=1.0), Bench(norm, finish_at=1.0)
    for bench in (cut, calm):
        bench.compute(0, 4)
    cut.dies_at = cut.beats + 3
    with pytest.raises(WorkersLost):
        cut.compute(4, 8)
    assert cut.work.held == Spans(((0, 4),))
    assert torch.equal(cut.gradients(), calm.gradients())
    assert torch.equal(cut.flat.local_statistics(), calm.flat.local_statistics())


def test_a_backward_pass_cut_short_gives_up_what_was_held() -> None:
    bench = Bench(finish_at=1.0)
    bench.compute(0, 4)
    forward = bench.beats // 2  # a beat a layer forward, one backward
    bench.dies_at = bench.beats + forward + 2
    with pytest.raises(WorkersLost):
        bench.compute(4, 8, last=True)
    assert bench.work.held == Spans()
    assert not bench.gradients().any()
    assert bench.work.booked.samples == 0


def test_what_is_nearly_done_is_finished() -> None:
    impatient, patient = Bench(finish_at=1.0), Bench(finish_at=0.0)
    for bench in (impatient, patient):
        bench.dies_at = 5
    with pytest.raises(WorkersLost):
        impatient.compute(0, 4)
    patient.compute(0, 4)
    assert patient.work.held == Spans(((0, 4),))


def test_nothing_is_begun_once_a_loss_is_known() -> None:
    bench = Bench()
    bench.dies_at = 0
    with pytest.raises(WorkersLost):
        bench.compute(0, 4)
    assert bench.beats == 0


def test_all_that_was_not_summed_is_handed_over() -> None:
    bench = Bench("batch")
    bench.compute(0, STEP, last=True)
    early = list(bench.sums)
    bench.work.hand_over(STEP)
    assert early
    assert len(bench.sums) == len(set(bench.sums))
    assert float(bench.flat.lane[0]) == pytest.approx(bench.work.booked.loss)


def test_with_a_spare_a_micro_batch_is_worth_finishing_later() -> None:
    assert finish_from(4, spares=1) == 0.25
    assert finish_from(4, spares=0) == 0.0
