"""Rounds of agreement over control connections: one worker's end of them.

It finds the other workers through the job's rendezvous, connects to all of them, takes part in rounds, and says at once
when somebody who is watched is lost, or when a peer is in the next round already: it then knows of a loss that this
process has not heard of. Newcomers connect to everybody and wait for the round that lets them in.

It does not know what is agreed on.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from ft_horovod.core.errors import Dismissed, Fenced, RendezvousLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.arrivals import Arrivals
from ft_horovod.membership.crew import Crew
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.mesh import Mesh, dial_all
from ft_horovod.membership.place import Place, leave_roster, read_roster, roll_call
from ft_horovod.membership.rounds import Decided, Member, Outcome, Rounds, Said, Wake
from ft_horovod.membership.wire import Anything, Dismissal, Knock, Stored

_POLL_S = 0.01
_START_S = 300.0  # how long the others may take to come up at the start
_LET_IN_S = 120.0  # a newcomer that nobody lets in for so long ends
_LINK_S = 5.0  # how long a connection may take to come about
_GIVE_UP_S = 120.0  # a worker that is connected, and says nothing in a round, is given up: it may carry much state


class Control:
    """One worker's control connections, and its part in the rounds."""

    def __init__(
        self,
        place: Place,
        keys: KeyStore,
        crew: Crew,
        *,
        beat: Callable[[], None],
        start: Callable[[Sequence[WorkerId]], None],
    ):
        """`beat` is called while waiting; `start` starts processes for newcomers, and does not wait for them."""
        self.me = place.me
        self.changed = threading.Condition()  # guards all that follows
        self.at_the_door = False  # a newcomer is ready, and the others know it
        self._place, self._keys, self._crew, self._beat = place, keys, crew, beat
        self._rounds: Rounds | None = None
        self._watched: tuple[WorkerId, ...] = ()
        self._gone: set[WorkerId] = set()
        self._arrivals = Arrivals(start)
        self._dismissed = False
        self._early: list[tuple[WorkerId, Anything]] = []  # heard before this worker had a world
        self._members: dict[WorkerId, Member] = {}
        self._mesh = Mesh(self.me, place.secret, place.address, self)
        self._self = Member(self.me, self._mesh.address)
        self._mesh.start()

    # -- finding each other --------------------------------------------------------------------------------------

    def enter_world(self) -> None:
        """Be connected to all who were started together; for a newcomer, to all who let it in. Raises Dismissed."""
        if self._place.number is None:
            self._knock()
            return
        members = roll_call(self._keys, self._place, self._self, _START_S)
        with self.changed:
            self._begin(Rounds(self.me, [member.worker for member in members]))
        self._connect(members, _START_S)

    def _knock(self) -> None:
        roster = read_roster(self._keys, _LINK_S)
        out_of_reach = dial_all(self._mesh.dial, roster, _LINK_S)
        hosts = [member.worker for member in roster if member not in out_of_reach]
        for worker in hosts:
            self._mesh.send(worker, Knock(self._self.address))
        self.at_the_door = True
        give_up = time.monotonic() + _LET_IN_S
        with self.changed:
            while self._rounds is None:
                if self._dismissed or all(worker in self._gone for worker in hosts) or time.monotonic() > give_up:
                    raise Dismissed("the group changed, or ended, before it could join")
                self._wait()
            let_in = self._rounds.last
        assert let_in is not None
        self._connect(let_in.members, _LINK_S)

    def _begin(self, rounds: Rounds) -> None:
        """There is a world: take in what was heard before."""
        self._rounds = rounds
        for worker in self._gone:
            rounds.lose(worker)
        early, self._early = self._early, []
        for sender, message in early:
            self._hear(sender, message)

    def _connect(self, members: Sequence[Member], within_s: float) -> None:
        """Connections between all of a world: who comes later in it dials."""
        place = [member.worker for member in members].index(self.me)
        earlier = [member for member in members[:place] if not self._mesh.linked(member.worker)]
        failed = [member.worker for member in dial_all(self._mesh.dial, earlier, _LINK_S)]
        give_up = time.monotonic() + within_s
        with self.changed:
            others = [member.worker for member in members if member.worker not in (self.me, *failed)]
            while missing := [who for who in others if not self._mesh.linked(who) and who not in self._gone]:
                if time.monotonic() > give_up:
                    break
                self._wait()
            for worker in (*failed, *missing):
                self._lose(worker)

    # -- rounds --------------------------------------------------------------------------------------------------

    def call(self, kind: str, payload: bytes, *, alarm: bool, opens: bool = False) -> Outcome:
        """A round to which the others must be called, with alarm when somebody is lost. `opens`: let newcomers in."""
        with self.changed:
            assert self._rounds is not None
            return self._round(Said(self._self, kind, payload, opens), Wake(self._rounds.number, alarm))

    def join(self, kind: str) -> Outcome:
        """A round to which all come of themselves."""
        with self.changed:
            return self._round(Said(self._self, kind), None)

    def _round(self, said: Said, wake: Wake | None) -> Outcome:
        """Wait for the outcome. Raises Fenced when the others went on without this worker."""
        rounds = self._rounds
        assert rounds is not None
        number, give_up = rounds.number, time.monotonic() + _GIVE_UP_S
        rounds.enter(said, wake)
        self._post()
        while rounds.number == number and not rounds.expelled:
            self._wait()
            if time.monotonic() > give_up:
                give_up += _GIVE_UP_S
                self._give_up(rounds.missing)
        outcome = rounds.last
        if rounds.expelled or outcome is None:
            raise Fenced("the others went on without this worker")
        self._members = {member.worker: member for member in outcome.members}
        self._send_away(self._arrivals.after(outcome))
        return outcome

    def let_in(self, outcome: Outcome) -> None:
        """Connect to those who came in with an outcome."""
        self._connect(outcome.members, _LINK_S)

    def restrict(self, workers: Iterable[WorkerId]) -> None:
        """The next rounds are of these only."""
        with self.changed:
            assert self._rounds is not None
            self._rounds.restrict(workers)

    def watch(self, workers: Sequence[WorkerId]) -> None:
        """From here on the group breaks when one of these is lost; perhaps it is lost already."""
        with self.changed:
            assert self._rounds is not None
            self._watched = tuple(workers)
            self._after_news()
            if any(worker in self._gone for worker in workers):
                self._crew.broken()

    def _wait(self) -> None:
        """For anything to happen, not for long."""
        self.changed.wait(_POLL_S)
        self._beat()

    def _give_up(self, silent: Sequence[WorkerId]) -> None:
        """Nobody waits for good for a worker that neither answers nor dies."""
        for worker in silent:
            self._mesh.send(worker, Dismissal())
            self._mesh.drop(worker)

    def _post(self) -> None:
        assert self._rounds is not None
        outbox, self._rounds.outbox = self._rounds.outbox, []
        for worker, message in outbox:
            self._mesh.send(worker, message)

    # -- other messages ------------------------------------------------------------------------------------------

    def tell(self, item: Stored) -> None:
        """Tell all who are watched."""
        for worker in self._watched:
            if worker != self.me:
                self._mesh.send(worker, item)

    def reach(self, worker: WorkerId, purpose: str) -> socket.socket | None:
        """A connection of its own to a worker of the last outcome; None when there is no way to it."""
        return self._mesh.dial_transfer(self._members[worker], purpose, _LINK_S)

    def linked_to(self, worker: WorkerId) -> bool:
        """Whether there is a connection."""
        return self._mesh.linked(worker)

    def close(self) -> None:
        """Nothing more is said, or heard."""
        self._mesh.close()

    # -- newcomers -----------------------------------------------------------------------------------------------

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """See `Membership.invite`. The roster that newcomers need is at the rendezvous before they are started."""
        host = next(iter(self._members))
        starts = host == self.me
        if starts:
            try:
                leave_roster(self._keys, tuple(self._members.values()))
            except RendezvousLost:
                starts = False  # they would not find anybody; the group can go on without them
        with self.changed:
            self._send_away(self._arrivals.invite(newcomers, host, starts=starts))

    @property
    def inviting(self) -> bool:
        """See `Membership.inviting`."""
        return self._arrivals.waiting

    def newcomers_ready(self) -> bool:
        """See `Membership.newcomers_ready`."""
        with self.changed:
            return self._arrivals.ready

    def _send_away(self, workers: Sequence[WorkerId]) -> None:
        for worker in workers:
            self._mesh.send(worker, Dismissal())

    # -- the mesh's `Listener` -----------------------------------------------------------------------------------

    def linked(self, peer: WorkerId) -> None:
        """See `Listener.linked`."""
        with self.changed:
            self.changed.notify_all()

    def received(self, peer: WorkerId, message: Anything) -> None:
        """See `Listener.received`."""
        if isinstance(message, Stored):
            self._crew.stored(message)
            return
        with self.changed:
            self._hear(peer, message)
            self.changed.notify_all()

    def _hear(self, peer: WorkerId, message: Anything) -> None:
        match message:
            case Stored():
                return
            case Knock(address=address):
                self._send_away(self._arrivals.knocked(Member(peer, address)))
            case Dismissal():
                self._dismissed = True
            case Decided(outcome=outcome) if self._rounds is None and self.me in outcome.world:
                rounds = Rounds(self.me, outcome.world, outcome.number + 1)
                rounds.last = outcome
                self._begin(rounds)
            case _ if self._rounds is None:
                self._early.append((peer, message))
            case _:
                self._rounds.hear(peer, message)
        self._after_news()

    def _after_news(self) -> None:
        if self._rounds is None:
            return
        self._rounds.candidates = self._arrivals.candidates
        self._rounds.expelled |= self._dismissed
        self._post()
        if self._rounds.alarmed or self._rounds.expelled:
            self._crew.broken()
        elif self._rounds.called:
            self._crew.called()

    def lost(self, peer: WorkerId) -> None:
        """See `Listener.lost`."""
        with self.changed:
            self._lose(peer)
            self.changed.notify_all()

    def _lose(self, peer: WorkerId) -> None:
        self._gone.add(peer)
        self._arrivals.lose(peer)
        if self._rounds is not None:
            self._rounds.lose(peer)
            self._after_news()
        if peer in self._watched:
            self._crew.broken()

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        """See `Listener.arrived`."""
        self._crew.arrived(peer, purpose, connection)

    def tick(self) -> None:
        """See `Listener.tick`."""
        self._crew.tick()
