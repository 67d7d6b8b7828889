"""Membership over Horovod on Gloo, and the toolkit's own control connections.

Workers agree over the control connections (`control`), and compute over Horovod (`gloo_ring`). A death is heard of
through the control connections, and then everything of Gloo's that is under way is interrupted.

`regroup` is a round in which everybody says its report. `form` carries out transfers, brings Horovod up, and ends with
a round in which everybody says whether that went well; it did if it did for all.

It does not know what the workers compute, nor who should lead.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

import msgspec
import torch

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.control import Control
from ft_horovod.membership.gloo_ring import GlooRing
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.parcels import Parcels
from ft_horovod.membership.place import Place
from ft_horovod.membership.protocol import Facts, Handle, Report
from ft_horovod.membership.rounds import Outcome
from ft_horovod.membership.wire import Stored

_POLL_S = 0.002
_FACTS, _FORMED, _FAILED = "facts", "formed", "failed"  # what is said in a round

_said = msgspec.msgpack.Decoder(tuple[int, Report])


class GlooMembership:
    """One worker under horovodrun, or under anything else that keeps a rendezvous."""

    def __init__(self, place: Place, keys: KeyStore, pulse: Pulse, start: Callable[[Sequence[WorkerId]], None]):
        """`start` starts processes for newcomers, and does not wait for them."""
        self.me = place.me
        self._newcomer = place.number is None
        self._pulse = pulse
        self._epoch = -1
        self._met: tuple[WorkerId, ...] = ()
        self._ring = GlooRing(self._publish, place.interface)
        self._parcels = Parcels(lambda: self.broken_at is not None)
        self._control = Control(place, keys, self, beat=pulse.beat, start=start)

    # -- agreeing ------------------------------------------------------------------------------------------------

    def meet(self, report: Report) -> Facts:
        """See `Membership.meet`. A newcomer waits for those who run already to let it in."""
        # At the start of a run the phase stays SETUP: others may still load, and how long is the launcher's business.
        if self._newcomer:
            self._pulse.enter(Phase.SPARE)
        self._control.enter_world()
        if self._newcomer:
            self._pulse.enter(Phase.REGROUP)
        return self._agree_on_facts(report)

    def regroup(self, report: Report) -> Facts:
        """See `Membership.regroup`."""
        self._pulse.enter(Phase.REGROUP)
        started = time.monotonic()
        alarm = self._ring.interrupted
        self._ring.down()  # in peace when nobody is lost: a peer may still be in its last sum
        return self._agree_on_facts(report, time.monotonic() - started, alarm=alarm)

    def _agree_on_facts(self, report: Report, down_s: float = 0.0, *, alarm: bool = False) -> Facts:
        started = time.monotonic()
        while True:
            text = msgspec.msgpack.encode((self._epoch, report))
            outcome = self._control.call(_FACTS, text, alarm=alarm, opens=report.newcomers_ready)
            if outcome.joining:
                self._control.let_in(outcome)
            report = msgspec.structs.replace(report, newcomers_ready=False)
            # With newcomers, or with somebody who was still forming: once more, with all.
            if not outcome.joining and all(said.kind == _FACTS for said in outcome.said):
                return self._facts(outcome, down_s, started)

    def _facts(self, outcome: Outcome, down_s: float, started: float) -> Facts:
        answers = [_said.decode(said.payload) for said in outcome.said]
        self._epoch = 1 + max(epoch for epoch, _ in answers)
        self._met = outcome.world
        self._ring.open(self._epoch)
        self._parcels.open(self._epoch)
        self._control.watch(self._met)
        return Facts(self._epoch, tuple(report for _, report in answers), down_s, time.monotonic() - started)

    # -- forming -------------------------------------------------------------------------------------------------

    def form(
        self, layout: Layout, transfers: Sequence[Transfer], state_of: Callable[[int], torch.Tensor]
    ) -> tuple[float, float]:
        """See `Membership.form`."""
        self._pulse.enter(Phase.REGROUP)
        started = restored = time.monotonic()
        kind = _FAILED
        try:
            for number, transfer in enumerate(transfers):
                self._transfer(transfer, f"{self._epoch}.{number}", state_of)
            restored = time.monotonic()
            if self.me in layout.members:
                self._ring.up(self.me, layout)
            kind = _FORMED
        except WorkersLost:
            self._ring.interrupt()
        self._control.watch(layout.members)  # who leaves may be gone before this process has heard that it may
        # Others may wait for this worker inside Horovod's start, and know of no loss.
        outcome = self._control.join(kind) if kind == _FORMED else self._control.call(kind, b"", alarm=True)
        if outcome.world != self._met or any(said.kind != _FORMED for said in outcome.said):
            self._ring.interrupt()
            raise WorkersLost("somebody was lost while the group was formed")
        self._control.restrict(layout.workers)
        self._control.watch(layout.members)
        return restored - started, time.monotonic() - restored

    def _transfer(self, transfer: Transfer, purpose: str, state_of: Callable[[int], torch.Tensor]) -> None:
        if self.me == transfer.source:
            self._parcels.send(state_of(transfer.stage), transfer.targets, purpose, self._control.reach)
        elif self.me in transfer.targets:
            self._parcels.receive(state_of(transfer.stage), transfer.source, purpose)

    def _publish(self, epoch: int, key: str, value: bytes) -> None:
        """Gloo has put something into its store: the others have it too."""
        self._control.tell(Stored(epoch, key, value))

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def broken_at(self) -> float | None:
        """See `Membership.broken_at`."""
        return self._ring.broken_at

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Membership.sum_into`."""
        return self._ring.sum_into(name, source, target)

    def stand_by(self, beat: Callable[[], None]) -> None:
        """See `Membership.stand_by`."""
        while self.broken_at is None:
            beat()
            time.sleep(_POLL_S)
        raise WorkersLost("the group changes")

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """See `Membership.invite`."""
        self._control.invite(newcomers)

    @property
    def inviting(self) -> bool:
        """See `Membership.inviting`."""
        return self._control.inviting

    def newcomers_ready(self) -> bool:
        """See `Membership.newcomers_ready`."""
        return self._control.newcomers_ready()

    @property
    def at_the_door(self) -> bool:
        """Whether this newcomer is ready, and the others know it."""
        return self._control.at_the_door

    def close(self) -> None:
        """See `Membership.close`."""
        self._pulse.enter(Phase.GONE)
        self._ring.down()
        self._control.close()
        self._ring.store.close()

    # -- control's `Crew` ----------------------------------------------------------------------------------------

    def called(self) -> None:
        """See `Crew.called`."""
        self._ring.part()

    def broken(self) -> None:
        """See `Crew.broken`."""
        self._ring.interrupt()

    def stored(self, item: Stored) -> None:
        """See `Crew.stored`."""
        self._ring.store.put(item.epoch, item.key, item.value)

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """See `Crew.arrived`."""
        self._parcels.arrived(peer, purpose, connection)

    def tick(self) -> None:
        """See `Crew.tick`."""
        self._ring.interrupt_again()
