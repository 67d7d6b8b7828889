"""The acts of training: a step, an evaluation, the closing.

Each act ends with sums over all members, so that it is finished for everybody or for nobody; a worker that saw it
finish is at most one act ahead of one that did not. This module knows the order of acts and what each adds to the
progress. It does not know who lives: a lost peer is a `MembershipError` that passes through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import nn

from ft_horovod.core.config import RunConfig
from ft_horovod.core.layout import Layout
from ft_horovod.core.spans import Spans
from ft_horovod.core.trace import Evaluated, StepFinished, TrainingFinished
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.protocol import Progress
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.control import Control
from ft_horovod.training.data import Prefetcher, Source
from ft_horovod.training.flat import FlatModel
from ft_horovod.training.keeper import Keeper
from ft_horovod.training.pace import Pace
from ft_horovod.training.step import StepWork
from ft_horovod.training.wishes import Wishes

_EVAL_BATCH = 64


def finite(loss: float | None) -> float | None:
    """A loss as JSON can hold it: None once it is not a number any more."""
    return loss if loss is not None and math.isfinite(loss) else None


@dataclass(frozen=True)
class Outfit:
    """What a worker's acts use besides the model and the data.

    `between(step, typical_s)` is called as each step begins, once: fault injection hooks in there.
    """

    trace: TraceFile
    pulse: Pulse
    keeper: Keeper
    wishes: Wishes
    between: Callable[[int, float], None]


class Acts:
    """The state of one worker and the acts that advance it."""

    def __init__(self, config: RunConfig, flat: FlatModel, test: Source, work: StepWork, outfit: Outfit):
        self._flat, self._test, self._work, self._every = flat, test, work, config.eval_every_epochs
        self._trace, self._pulse, self._keeper, self._between = (
            outfit.trace,
            outfit.pulse,
            outfit.keeper,
            outfit.between,
        )
        self.wishes = outfit.wishes
        self.pace = Pace()
        self.progress = Progress(act=0, goal=config.layout.workers)
        self._epoch, self._leads = 0, False

    @property
    def state(self) -> torch.Tensor:
        """Everything a newcomer lacks, flat."""
        return self._flat.state

    @property
    def held(self) -> Spans:
        """Positions of the step in hand whose gradients this worker has."""
        return self._work.held

    def adopt(self, progress: Progress) -> None:
        """The state is now somebody else's, who was this far."""
        self.progress = progress
        self._work.forget()

    def resume(self, progress: Progress) -> None:
        """Go on from a commit; how many members are wanted is this run's configuration's business."""
        self.progress = msgspec.structs.replace(progress, goal=self.progress.goal)

    def enter(self, epoch: int, layout: Layout, claimed: Spans, *, leads: bool) -> None:
        """A new group holds. Gradients of the `claimed` positions of the step in hand are held by its members."""
        self._epoch, self._leads = epoch, leads
        self.pace.disturb(self.progress.step)
        self._work.enter(layout, claimed)
        self.wishes.enter(layout, self.progress.goal, leads=leads)

    def perform(self, *, leaving: bool) -> bool:
        """The next act. False when the membership is to change after it. Raises MembershipError."""
        step, order = self.progress.step, self._work.order
        at_epoch_end = step > 0 and step % order.steps_per_epoch == 0
        asked_for = self._every > 0 and at_epoch_end and order.epoch(step) % self._every == 0
        if (asked_for or step == self._work.steps) and self.progress.evaluated_step != step:
            self._evaluate()
        elif step == self._work.steps:
            self._close()
        else:
            return self._step(leaving)
        return True

    def _step(self, leaving: bool) -> bool:
        step = self.progress.step
        first_try = self.pace.begin(step)
        self._pulse.enter(Phase.COMPUTE, step)
        if first_try:
            self._between(step, self.pace.typical_s)
        mine = self._work.gradients(step)
        total = self._work.sum_up("control", self.wishes.add_to(mine, leaving=leaving))
        rate = self._work.update(step)
        self.progress = msgspec.structs.replace(
            self.progress,
            act=self.progress.act + 1,
            step=step + 1,
            goal=self.progress.goal + total.grow,
            loss=total.loss,
            ledger=self.progress.ledger.book(self._work.order, step, total.samples, total.digest),
        )
        self.wishes.heard(total)
        step_s, recovery_s = self.pace.finish()
        if self._leads:
            self._trace.emit(
                StepFinished,
                epoch=self._epoch,
                step=step,
                step_s=step_s,
                loss=finite(total.loss),
                samples=total.samples,
                lr=rate,
                recovery_s=recovery_s,
            )
            self._keeper.commit_when_due(self.progress, self.state)
        return not total.wants_change

    def _evaluate(self) -> None:
        """Accuracy over the test set, each member a share of it."""
        self._pulse.enter(Phase.COMPUTE)
        share = self._work.share(Spans(((0, len(self._test)),)))
        self._flat.clear()  # evaluation sees the agreed statistics
        model = self._flat.model.eval()
        with torch.inference_mode(), Prefetcher(self._test) as loader:
            correct = sum(self._correct(model, loader, part) for part in _parts(share))
        model.train()
        total = self._work.sum_up("evaluation", Control(correct=correct, samples=len(share)))
        accuracy = total.correct / total.samples
        self.progress = msgspec.structs.replace(
            self.progress, act=self.progress.act + 1, evaluated_step=self.progress.step, accuracy=accuracy
        )
        if self._leads:
            self._trace.emit(Evaluated, step=self.progress.step, accuracy=accuracy, samples=total.samples)

    def _correct(self, model: nn.Module, loader: Prefetcher, part: Spans) -> int:
        """How many of the test samples at `part` are told right."""
        loader.request(np.fromiter(part, np.int64), 0)
        batch = loader.get(self._pulse.beat)
        return int((model(batch.images.to(self.state.device)).argmax(1).cpu() == batch.labels).sum())

    def _close(self) -> None:
        """The leader writes the last commit while the others wait; after this nothing can be lost any more."""
        self._pulse.enter(Phase.COMMIT)
        if self._leads:
            self.commit_now()
            self._trace.emit(
                TrainingFinished,
                step=self.progress.step,
                final_loss=finite(self.progress.loss),
                weights_sha256=self.sha256(),
                samples_exact=self.progress.ledger.exact,
                samples=self.progress.ledger.samples,
            )
        self._work.sum_up("closing", Control())
        self.progress = msgspec.structs.replace(self.progress, act=self.progress.act + 1, closed=True)

    def describe(self) -> dict[str, int]:
        """The fields of `TrainingStarted` that the run's size is told by."""
        return {
            "step": self.progress.step,
            "steps": self._work.steps,
            "steps_per_epoch": self._work.order.steps_per_epoch,
            "train_samples": self._work.order.samples,
            "test_samples": len(self._test),
            "parameters": self._flat.n_parameters,
        }

    def sha256(self) -> str:
        """Hash of the weights and running statistics."""
        return self._flat.sha256()

    def commit_now(self) -> None:
        """Write the state to disk and wait until it is there."""
        self._pulse.enter(Phase.COMMIT)
        self._keeper.commit_now(self.progress, self.state)


def _parts(share: Spans) -> Iterator[Spans]:
    """A share in batches fit for evaluation."""
    while share:
        part, share = share.take(_EVAL_BATCH)
        yield part
