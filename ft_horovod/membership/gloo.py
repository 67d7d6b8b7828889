"""Membership over Horovod on Gloo, and the toolkit's own control connections.

Workers agree over the control connections (`rounds` over `mesh`), and compute over Horovod (`gloo_ring`). A death is
heard of through the control connections, and then everything of Gloo's that is under way is interrupted. So is it when
a peer says that it is in the next round already: it has heard of a death that this process has not.

`regroup` is a round in which everybody says its report. `form` carries out transfers, brings Horovod up, and ends with
a round in which everybody says whether that went well; it did if it did for all.

It does not know what the workers compute, nor who should lead.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import torch

from ft_horovod.core.errors import Dismissed, Fenced, WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.arrivals import Arrivals
from ft_horovod.membership.board import Phase, Pulse
from ft_horovod.membership.gloo_ring import GlooRing
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.mesh import Mesh, dial_all
from ft_horovod.membership.parcels import Parcels
from ft_horovod.membership.protocol import Facts, Handle, Report
from ft_horovod.membership.rounds import Decided, Member, Outcome, Rounds, Said
from ft_horovod.membership.wire import Anything, Dismissal, Knock, Stored

_POLL_S = 0.002
_START_S = 300.0  # how long the others may take to come up at the start
_LET_IN_S = 120.0  # a newcomer that nobody lets in for so long ends
_LINK_S = 5.0  # how long a connection may take to come about
_GIVE_UP_S = 30.0  # a worker that is connected, and says nothing in a round, is given up by the leader
_FACTS, _FORMED, _FAILED = "facts", "formed", "failed"

_reports = msgspec.msgpack.Decoder(tuple[int, Report])
_roster = msgspec.msgpack.Decoder(tuple[Member, ...])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where this worker stands in the job."""

    me: WorkerId
    number: int | None  # among those the launcher started together; None for a newcomer
    started: int  # how many those are
    address: str  # of this host, on the job's network
    interface: str  # the same by name
    secret: bytes


class GlooMembership:
    """One worker under horovodrun, or under anything else that keeps a rendezvous."""

    def __init__(self, place: Place, keys: KeyStore, pulse: Pulse, start: Callable[[Sequence[WorkerId]], None]):
        """`start` starts processes for newcomers, and does not wait for them."""
        self.me = place.me
        self._place, self._keys, self._pulse = place, keys, pulse
        self._changed = threading.Condition()  # guards what follows
        self._rounds: Rounds | None = None
        self._watched: tuple[WorkerId, ...] = ()  # whose loss breaks the group
        self._gone: set[WorkerId] = set()
        self._arrivals = Arrivals(start)
        self._dismissed = False
        self.at_the_door = False  # a newcomer is ready, and the others know it
        self._early: list[tuple[WorkerId, Anything]] = []  # heard before this worker had a world
        self._addresses: dict[WorkerId, Member] = {}
        self._epoch = -1
        self._parcels = Parcels(self._changed, lambda: self.broken_at is not None)
        self._mesh = Mesh(self.me, place.secret, place.address, self)
        self._ring = GlooRing(self._publish, place.interface)
        self._self = Member(self.me, self._mesh.address)
        self._mesh.start()

    # -- agreeing ------------------------------------------------------------------------------------------------

    def meet(self, report: Report) -> Facts:
        """See `Membership.meet`. A newcomer waits for those who run already to let it in."""
        if self._place.number is None:
            self._pulse.enter(Phase.SPARE)
            self._knock()
            self._pulse.enter(Phase.REGROUP)
        else:
            self._gather()
        return self._agree_on_facts(report)

    def regroup(self, report: Report) -> Facts:
        """See `Membership.regroup`."""
        self._pulse.enter(Phase.REGROUP)
        self._ring.interrupt()
        started = time.monotonic()
        self._ring.down()
        return self._agree_on_facts(report, time.monotonic() - started)

    def _agree_on_facts(self, report: Report, down_s: float = 0.0) -> Facts:
        started = time.monotonic()
        while True:
            with self._changed:
                text = msgspec.msgpack.encode((self._epoch, report))
                opens = report.newcomers_ready
            outcome = self._round(Said(self._self, _FACTS, text, opens))
            self._arrivals_after(outcome)
            report = msgspec.structs.replace(report, newcomers_ready=False)
            if outcome.joining:
                self._link(outcome)
            elif all(said.kind == _FACTS for said in outcome.said):
                return self._facts(outcome, down_s, started)

    def _facts(self, outcome: Outcome, down_s: float, started: float) -> Facts:
        answers = [_reports.decode(said.payload) for said in outcome.said]
        with self._changed:
            self._epoch = 1 + max(epoch for epoch, _ in answers)
            self._addresses = {member.worker: member for member in outcome.members}
            self._watched = outcome.world
        self._ring.open(self._epoch)
        self._look_around()
        return Facts(self._epoch, tuple(said for _, said in answers), down_s, time.monotonic() - started)

    def _round(self, said: Said) -> Outcome:
        """Take part in the next round and wait for its outcome. Raises Fenced when the others did without this one."""
        with self._changed:
            rounds = self._rounds
            assert rounds is not None
            number, give_up = rounds.number, time.monotonic() + _GIVE_UP_S
            rounds.enter(said, wake=said.kind == _FACTS)
            self._post()
            while rounds.number == number and not rounds.expelled:
                self._changed.wait(_POLL_S * 10)
                self._pulse.beat()
                if time.monotonic() > give_up:
                    give_up += _GIVE_UP_S
                    for silent in rounds.missing:
                        self._mesh.send(silent, Dismissal())
                        self._mesh.drop(silent)
            if rounds.expelled or rounds.last is None:
                raise Fenced("the others went on without this worker")
            return rounds.last

    def _post(self) -> None:
        """Send what the rounds have to say; holds `_changed`."""
        assert self._rounds is not None
        while self._rounds.outbox:
            outbox, self._rounds.outbox = self._rounds.outbox, []
            for worker, message in outbox:
                self._mesh.send(worker, message)

    # -- finding each other --------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """At the start: everybody leaves its address at the rendezvous and connects to those before it."""
        assert self._place.number is not None
        self._keys.put(f"start-{self._place.number}", msgspec.msgpack.encode(self._self))
        members = []
        give_up = time.monotonic() + _START_S
        for number in range(self._place.started):
            text = self._keys.wait(f"start-{number}", give_up - time.monotonic())
            if text is None:
                raise Fenced(f"worker {number} of {self._place.started} did not come up within {_START_S:.0f} s")
            members.append(msgspec.msgpack.decode(text, type=Member))
        self._enter_world(Rounds(self.me, [member.worker for member in members]), members)

    def _knock(self) -> None:
        """A newcomer connects to those who run, says that it is ready, and waits for the round that lets it in."""
        text = self._keys.wait("roster", _LINK_S)
        roster = [] if text is None else list(_roster.decode(text))
        out_of_reach = dial_all(self._mesh.dial, roster, _LINK_S)
        hosts = [member.worker for member in roster if member not in out_of_reach]
        for worker in hosts:
            self._mesh.send(worker, Knock(self._self.address))
        self.at_the_door = True
        give_up = time.monotonic() + _LET_IN_S
        with self._changed:
            while self._rounds is None:
                if self._dismissed or all(worker in self._gone for worker in hosts) or time.monotonic() > give_up:
                    raise Dismissed("the group changed, or ended, before it could join")
                self._pulse.beat()
                self._changed.wait(_POLL_S * 5)
            let_in = self._rounds.last
        assert let_in is not None
        self._link(let_in)

    def _link(self, outcome: Outcome) -> None:
        """Connections between all of the next world: who comes later in it dials."""
        self._connect(outcome.members)

    def _enter_world(self, rounds: Rounds, members: Sequence[Member]) -> None:
        with self._changed:
            self._rounds = rounds
            self._begin_listening()
        self._connect(members)

    def _begin_listening(self) -> None:
        """What was heard before there was a world; holds `_changed`."""
        assert self._rounds is not None
        early, self._early = self._early, []
        for worker in self._gone:
            self._rounds.lose(worker)
        for sender, message in early:
            self._hear(sender, message)

    def _connect(self, members: Sequence[Member]) -> None:
        place = [member.worker for member in members].index(self.me)
        earlier = [member for member in members[:place] if not self._mesh.linked(member.worker)]
        failed = {member.worker for member in dial_all(self._mesh.dial, earlier, _LINK_S)}
        give_up = time.monotonic() + (_START_S if self._epoch < 0 and self._place.number is not None else _LINK_S)
        with self._changed:
            expected = [member.worker for member in members if member.worker not in (self.me, *failed)]
            while missing := [w for w in expected if not self._mesh.linked(w) and w not in self._gone]:
                if time.monotonic() > give_up:
                    break
                self._pulse.beat()
                self._changed.wait(_POLL_S * 5)
            for worker in (*failed, *missing):
                self._lose(worker)

    # -- newcomers -----------------------------------------------------------------------------------------------

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """See `Membership.invite`. The roster that newcomers need is at the rendezvous before they are started."""
        with self._changed:
            assert self._rounds is not None
            world = self._rounds.world
            members = tuple(self._addresses[worker] for worker in world)
        if world[0] == self.me:
            self._keys.put("roster", msgspec.msgpack.encode(members))
        with self._changed:
            self._dismiss(self._arrivals.invite(newcomers, world[0], starts=world[0] == self.me))

    def _arrivals_after(self, outcome: Outcome) -> None:
        with self._changed:
            self._dismiss(self._arrivals.after(outcome))

    def _dismiss(self, workers: Sequence[WorkerId]) -> None:
        for worker in workers:
            self._mesh.send(worker, Dismissal())

    @property
    def inviting(self) -> bool:
        """See `Membership.inviting`."""
        return self._arrivals.waiting

    def newcomers_ready(self) -> bool:
        """See `Membership.newcomers_ready`."""
        with self._changed:
            return self._arrivals.ready

    # -- forming -------------------------------------------------------------------------------------------------

    def form(
        self, layout: Layout, transfers: Sequence[Transfer], state_of: Callable[[int], torch.Tensor]
    ) -> tuple[float, float]:
        """See `Membership.form`."""
        self._pulse.enter(Phase.REGROUP)
        started = restored = time.monotonic()
        world = tuple(self._addresses)
        kind = _FAILED
        try:
            self._parcels.carry(transfers, self.me, self._epoch, self._reach, state_of)
            restored = time.monotonic()
            if self.me in layout.members:
                self._ring.up(self.me, layout)
            kind = _FORMED
        except WorkersLost:
            self._ring.interrupt()
        with self._changed:  # who leaves may be gone before this process has heard that it may
            self._watched = layout.members
        outcome = self._round(Said(self._self, kind))
        if outcome.world != world or any(said.kind != _FORMED for said in outcome.said):
            self._ring.interrupt()
            raise WorkersLost("somebody was lost while the group was formed")
        with self._changed:
            assert self._rounds is not None
            self._rounds.restrict(layout.workers)
        self._look_around()
        return restored - started, time.monotonic() - restored

    def _reach(self, worker: WorkerId, purpose: str) -> socket.socket | None:
        return self._mesh.dial_transfer(self._addresses[worker], purpose, _LINK_S)

    def _publish(self, epoch: int, key: str, value: bytes) -> None:
        """Gloo has put something into its store: the others have it too."""
        for worker in self._watched:
            if worker != self.me:
                self._mesh.send(worker, Stored(epoch, key, value))

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

    def close(self) -> None:
        """See `Membership.close`."""
        self._pulse.enter(Phase.GONE)
        self._ring.down()
        self._mesh.close()
        self._ring.store.close()

    # -- what the control connections say, in their thread ------------------------------------------------------

    def linked(self, peer: WorkerId) -> None:
        """See `Listener.linked`."""
        with self._changed:
            self._changed.notify_all()

    def received(self, peer: WorkerId, message: Anything) -> None:
        """See `Listener.received`."""
        if isinstance(message, Stored):
            self._ring.store.put(message.epoch, message.key, message.value)
            return
        with self._changed:
            self._hear(peer, message)
            self._changed.notify_all()

    def _hear(self, peer: WorkerId, message: Anything) -> None:
        match message:
            case Stored():
                return
            case Knock(address=address):
                self._dismiss(self._arrivals.knocked(Member(peer, address)))
            case Dismissal() if self._rounds is None:
                self._dismissed = True
            case Dismissal():
                self._rounds.expelled = True
                self._ring.interrupt()
            case Decided(outcome=outcome) if self._rounds is None and self.me in outcome.world:
                self._rounds = Rounds(self.me, outcome.world, outcome.number + 1)
                self._rounds.last = outcome
                self._begin_listening()
            case _ if self._rounds is None:
                self._early.append((peer, message))
            case _:
                self._rounds.hear(peer, message)
        if self._rounds is not None:
            self._rounds.candidates = self._arrivals.candidates
            self._post()
            if self._rounds.called:
                self._ring.interrupt()

    def lost(self, peer: WorkerId) -> None:
        """See `Listener.lost`."""
        with self._changed:
            self._lose(peer)
            self._changed.notify_all()

    def _lose(self, peer: WorkerId) -> None:
        self._gone.add(peer)
        self._arrivals.lose(peer)
        if self._rounds is not None:
            self._rounds.candidates = self._arrivals.candidates
            self._rounds.lose(peer)
            self._post()
        if peer in self._watched:
            self._ring.interrupt()

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """See `Listener.arrived`."""
        self._parcels.arrived(peer, purpose, connection)

    def tick(self) -> None:
        """See `Listener.tick`."""
        self._ring.interrupt_again()

    def _look_around(self) -> None:
        """Somebody may have been lost, or gone on, between an outcome and now."""
        with self._changed:
            assert self._rounds is not None
            if self._rounds.called or any(worker in self._gone for worker in self._watched):
                self._ring.interrupt()
