"""What the training loop asks of a group of workers that may lose some at any time.

The rules that every backend keeps, and that the contract suite checks:

1. `regroup` returns the same facts to everyone who gets them, whatever dies meanwhile.
2. `form` either brings everybody up on the layout or raises `MembershipError` in everybody who lives.
3. After `MembershipError` from any call the only next call is `regroup`.
4. Every wait ends: in success, in `MembershipError`, or with the end of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import torch

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Transfer
from ft_horovod.core.samples import SampleLedger
from ft_horovod.core.spans import Spans


class Progress(msgspec.Struct, frozen=True):
    """How far a worker's state is. Compared by `act`: each finished step, evaluation and closing is one act."""

    act: int = -1  # -1: no state yet
    step: int = 0  # optimizer steps finished
    evaluated_step: int = -1
    closed: bool = False
    goal: int = 0  # members wanted; grows when a newcomer is asked for on top
    accuracy: float | None = None
    loss: float | None = None
    ledger: SampleLedger = SampleLedger()
    launch: int = 0  # how often the run was resumed
    costs: tuple[float, ...] = ()  # seconds of each unit of the model, by whoever measured them; () with one stage


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells the others when they regroup."""

    worker: WorkerId
    progress: Progress = Progress()
    layout: Layout | None = None  # the last one formed; None for a newcomer
    roster: tuple[WorkerId, ...] = ()  # everybody it ever heard of, in launch order
    held: Spans = Spans()  # positions of the step in hand whose gradients it has, not yet summed
    leaving: bool = False
    newcomers_ready: bool = False
    invite: bool = False  # wants newcomers to be started now
    noticed_at: float | None = None  # Unix time at which it knew of a loss
    last_seen: Mapping[str, float] = {}  # worker -> Unix time of the last sign of life, as seen from this host
    hung: tuple[str, ...] = ()  # workers it killed because they were stuck
    processors: int = 0  # of its host, which that host's workers share; 0: it computes on a device of its own


class Facts(msgspec.Struct, frozen=True):
    """What all agreed on in `regroup`: who answered (in a stable order, newcomers last) and what they said."""

    epoch: int
    reports: tuple[Report, ...]
    shrink_s: float = 0.0
    exchange_s: float = 0.0

    def report(self, worker: WorkerId) -> Report:
        """The report of a worker that answered. Raises KeyError for others."""
        for report in self.reports:
            if report.worker == worker:
                return report
        raise KeyError(str(worker))

    @property
    def workers(self) -> tuple[WorkerId, ...]:
        return tuple(report.worker for report in self.reports)


class Handle(Protocol):
    """A sum under way."""

    def done(self) -> bool:
        """True once the target holds the sum. Raises MembershipError when it never will."""
        ...


class Membership(Protocol):
    """One worker's view of the group."""

    me: WorkerId

    def meet(self, report: Report) -> Facts:
        """Wait for everybody the launcher started; for a late joiner, for those who run already."""
        ...

    def regroup(self, report: Report) -> Facts:
        """Find out who lives. Ends whatever sums are under way, everywhere."""
        ...

    def form(
        self, layout: Layout, transfers: Sequence[Transfer], state_of: Callable[[int], torch.Tensor]
    ) -> tuple[float, float]:
        """Carry out the transfers and come up on `layout`; returns (restore_s, reinit_s).

        `state_of` is asked, by sources and targets of a transfer, for this worker's state of a stage: a contiguous
        tensor, the same size everywhere; targets' contents are overwritten. Workers that answered but are not in the
        layout are let go. Raises MembershipError.
        """
        ...

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """Start summing `source` over all members of the layout into `target`. Raises MembershipError."""
        ...

    @property
    def broken_at(self) -> float | None:
        """When this process heard that the membership no longer holds (monotonic clock); None while it does.

        Cheap: asked between layers.
        """
        ...

    def stand_by(self, beat: Callable[[], None]) -> None:
        """A spare waits here until it is needed; returns only by raising MembershipError."""
        ...

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """Start processes for `newcomers`, everybody together, between `regroup` and `form`.

        A `regroup` to which somebody reports `newcomers_ready` lets them in. Earlier invitations are withdrawn, and
        this one is void once the first worker of the world, who carries it out, is lost.
        """
        ...

    @property
    def inviting(self) -> bool:
        """Whether newcomers were invited lately and are not in yet: too early to invite others."""
        ...

    def newcomers_ready(self) -> bool:
        """True when this process knows that invited processes wait to be let in."""
        ...

    def close(self) -> None:
        """The run is over for this worker."""
        ...
