"""The acts of training: a step, an evaluation, the closing.

Each act ends with sums over all members, so that it is finished for everybody or for nobody; a worker that saw it
finish is at most one act ahead of one that did not. This module knows the order of acts and what each adds to the
progress. It does not know who lives: a lost peer is a `MembershipError` that passes through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec
import torch

from ft_horovod.commit.names import Place
from ft_horovod.core.config import RunConfig
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, View
from ft_horovod.core.spans import Spans
from ft_horovod.core.trace import Evaluated, SlowDetected, StepFinished, TrainingFinished
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.protocol import Progress
from ft_horovod.tracefile import TraceFile
from ft_horovod.training.control import Control
from ft_horovod.training.host_keeper import HostKeeper
from ft_horovod.training.keeper import Keeper
from ft_horovod.training.pace import Pace
from ft_horovod.training.wishes import Wishes
from ft_horovod.training.work import StepInHand, Work


def finite(loss: float | None) -> float | None:
    """A loss as JSON can hold it: None once it is not a number any more."""
    return loss if loss is not None and math.isfinite(loss) else None


@dataclass(frozen=True)
class Outfit:
    """What a worker's acts use besides the model and the data.

    `between(step, typical_s)` is called as each step begins, once: fault injection hooks in there. `broken` tells
    whether the group has lost somebody, cheaply.
    """

    trace: TraceFile
    pulse: Pulse
    keeper: Keeper
    memory: HostKeeper
    wishes: Wishes
    between: Callable[[int, float], None]
    broken: Callable[[], bool]


class Acts:
    """The state of one worker and the acts that advance it."""

    def __init__(self, config: RunConfig, work: Work, test_samples: int, outfit: Outfit):
        self._config_stages = config.layout.stages
        self._work, self._test_samples, self._every = work, test_samples, config.eval_every_epochs
        self._trace, self._pulse, self._keeper = outfit.trace, outfit.pulse, outfit.keeper
        self._between, self._broken = outfit.between, outfit.broken
        self.wishes = outfit.wishes
        self.pace = Pace()
        self.progress = Progress(act=0, goal=config.layout.workers, costs=work.measure())
        self._resumes: Literal["disk", "memory"] | None = None
        self._memory, self._members = outfit.memory, 1
        self._epoch, self._leads, self._stages = 0, False, 1
        self._stage: int | None = None
        self._place: Place | None = None
        self.weights_sha256: str | None = None  # once the run is closed

    def state_of(self, progress: Progress) -> Callable[[int], torch.Tensor]:
        """This worker's state of a stage, as the cut that `progress` implies has it."""
        return lambda stage: self._work.state_of(stage, progress.costs)

    @property
    def held(self) -> Spans:
        """Positions of the step in hand whose gradients this worker has."""
        return self._work.held

    def adopt(self, progress: Progress) -> None:
        """The state is now somebody else's, who was this far."""
        self._memory.settle(self._pulse.beat)
        self.progress, self._resumes = progress, None
        self._work.forget()

    def resume(self) -> None:
        """Go on from the newest commit there is; how many members are wanted is this run's configuration's business."""
        recent = self._memory.newest(self._config_stages)
        on_disk = self._keeper.newest(above=recent.step if recent else -1)
        found = on_disk or recent
        if found is None:
            return
        self._resumes = "disk" if on_disk else "memory"
        costs = found.costs if found is recent else self.progress.costs or found.costs
        self.progress = msgspec.structs.replace(found, goal=self.progress.goal, launch=found.launch + 1, costs=costs)

    def enter(self, me: WorkerId, view: View, found: StepInHand, costs: tuple[float, ...]) -> None:
        """A new group holds."""
        layout = view.layout
        self._epoch, self._leads = view.epoch, me == layout.members[0]
        self._stage, self._stages = layout.role(me)[1], len(layout.groups)
        self._place = _place(layout, me)
        self.progress = msgspec.structs.replace(self.progress, costs=costs)
        self.pace.disturb(self.progress.step)
        self._work.enter(layout, found, costs)
        self._members = len(layout.members)
        if self._stage is not None:
            self._load(self._stage)
            self._memory.enter(view, me, self._work.state_of(self._stage, costs))
        if self._leads:
            self._keeper.take_over(self.progress.step)
        self.wishes.enter(layout, self.progress.goal, leads=self._leads)

    def _load(self, stage: int) -> None:
        state, named = self._state(stage)
        match self._resumes:
            case "memory":
                self._memory.load(stage, state)
            case "disk":
                self._keeper.load(named)
        self._resumes = None

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
        typical_s = self.pace.typical_s
        wishes = self.wishes.now(leaving=leaving, commit=self._leads and self._keeper.due(step, typical_s))
        store = self._leads and self._memory.due(step, typical_s)
        wishes = msgspec.structs.replace(wishes, store=int(store), stored=int(self._memory.ready))
        total = self._work.compute(step, wishes)
        self._memory.settle(self._pulse.beat)
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
                waited_s=total.waited_s,
            )
            for worker, factor in self._work.speeds.news().items():
                self._trace.emit(SlowDetected, worker=str(worker), factor=factor)
        if total.commit and self._place is not None:
            self._keeper.begin(self.progress, self._place, *self._state(self._place.stage))
        if total.store and total.stored == self._members and self._stage is not None:
            self._memory.begin(self.progress, self._stage, self._state(self._stage)[0])
        return not total.wants_change

    def _evaluate(self) -> None:
        """Accuracy over the test set."""
        self._pulse.enter(Phase.COMPUTE)
        total = self._work.sum_up("evaluation", self._work.evaluate())
        accuracy = total.correct / total.samples
        self.progress = msgspec.structs.replace(
            self.progress, act=self.progress.act + 1, evaluated_step=self.progress.step, accuracy=accuracy
        )
        if self._leads:
            self._trace.emit(Evaluated, step=self.progress.step, accuracy=accuracy, samples=total.samples)

    def _close(self) -> None:
        """All write the last commit; after this nothing can be lost any more."""
        self._pulse.enter(Phase.COMMIT)
        if self._place is not None:
            self._keeper.commit_now(self.progress, self._place, *self._state(self._place.stage), self._broken)
        weights = self._work.weights_sha256()
        if self._leads:
            self._trace.emit(
                TrainingFinished,
                step=self.progress.step,
                final_loss=finite(self.progress.loss),
                weights_sha256=weights,
                samples_exact=self.progress.ledger.exact,
                samples=self.progress.ledger.samples,
            )
        self._work.sum_up("closing", Control())
        self._memory.remove()
        self.weights_sha256 = weights
        self.progress = msgspec.structs.replace(self.progress, act=self.progress.act + 1, closed=True)

    def describe(self) -> dict[str, int]:
        """The fields of `TrainingStarted` that the run's size is told by."""
        return {
            "step": self.progress.step,
            "steps": self._work.steps,
            "steps_per_epoch": self._work.order.steps_per_epoch,
            "train_samples": self._work.order.samples,
            "test_samples": self._test_samples,
            "parameters": self._work.n_parameters,
        }

    def commit_now(self, stage: int) -> None:
        """The run stops, and this worker alone writes all of a stage's state; wait until it is there."""
        self._pulse.enter(Phase.COMMIT)
        self._keeper.commit_now(self.progress, Place.alone(stage, self._stages), *self._state(stage), broken=None)

    def leave(self) -> None:
        """This worker is not needed any more: see its part of a commit through."""
        self._pulse.enter(Phase.COMMIT)
        self._keeper.finish()

    def _state(self, stage: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """This worker's state of a stage, and the same by name."""
        return self._work.state_of(stage, self.progress.costs), self._work.named(stage, self.progress.costs)


def _place(layout: Layout, me: WorkerId) -> Place | None:
    """Whose part of a commit is this worker's; None for a spare."""
    stage = layout.role(me)[1]
    if stage is None:
        return None
    sizes = tuple(len(group.members) for group in layout.groups)
    return Place(stage, layout.groups[stage].members.index(me), sizes)
