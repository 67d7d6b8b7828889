"""How workers agree without a service: rounds, each with one outcome that is the same for everybody who gets it.

In a round every living worker says something. The first of the world that lives, the leader, gathers what all living
ones said, proposes it, and decides once all who live have accepted the proposal. When the leader dies, the next one
asks all who live what they have accepted, and must propose that again: had anybody been told a decision, then all who
live had accepted it before. So an outcome never has two versions, whatever dies. (It is Paxos with "all who live" for
a quorum, which is what one gets from a failure detector that is right: the kernel's end-of-file.)

Where it is wrong, because a network fell apart, each side decides for itself, without the other; whoever is not in an
outcome and hears of it is out. Which side may go on is `core.fencing`'s business.

This module is a state machine: messages and losses in, messages and outcomes out. It knows no sockets and no clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ft_horovod.core.identity import WorkerId

Ballot = tuple[int, int]  # attempt, and the proposer's place in the world: unique


class Member(msgspec.Struct, frozen=True):
    """A worker and where it listens, `host:port`."""

    worker: WorkerId
    address: str


class Said(msgspec.Struct, frozen=True):
    """What a worker brings into a round."""

    member: Member
    kind: str
    payload: bytes = b""
    opens: bool = False  # it wants candidates to be let in

    @property
    def worker(self) -> WorkerId:
        return self.member.worker


class Outcome(msgspec.Struct, frozen=True):
    """What a round came to: what was said, in the world's order, and who is let in for the next."""

    number: int
    said: tuple[Said, ...]
    joining: tuple[Member, ...] = ()

    @property
    def world(self) -> tuple[WorkerId, ...]:
        """The workers of the next round."""
        return (*(said.worker for said in self.said), *(member.worker for member in self.joining))

    @property
    def members(self) -> tuple[Member, ...]:
        return (*(said.member for said in self.said), *self.joining)


class Accepted(msgspec.Struct, frozen=True):
    """The newest proposal a worker has accepted."""

    ballot: Ballot
    outcome: Outcome


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """The sender is in this round, and waits. `alarm`: because somebody was lost."""

    number: int
    alarm: bool = False


class Contribute(msgspec.Struct, frozen=True, tag="contribute"):
    """To the leader."""

    number: int
    said: Said
    accepted: Accepted | None


class Propose(msgspec.Struct, frozen=True, tag="propose"):
    """From the leader."""

    number: int
    ballot: Ballot
    outcome: Outcome


class Accept(msgspec.Struct, frozen=True, tag="accept"):
    """To the leader: the sender will tell every later leader of this proposal."""

    number: int
    ballot: Ballot


class Decided(msgspec.Struct, frozen=True, tag="decided"):
    """This is final."""

    number: int
    outcome: Outcome


Message = Wake | Contribute | Propose | Accept | Decided


class Rounds:
    """One worker's part in the rounds."""

    def __init__(self, me: WorkerId, world: Sequence[WorkerId], number: int = 0):
        self.me, self.world, self.number = me, tuple(world), number
        self.last: Outcome | None = None  # of round `number - 1`
        self.expelled = False  # the others have decided without this worker
        self.called = False  # somebody waits in this round
        self.alarmed = False  # and says that somebody was lost
        self.candidates: tuple[Member, ...] = ()  # let in when this worker leads and somebody opens
        self.outbox: list[tuple[WorkerId, Message]] = []
        self._lost: set[WorkerId] = set()
        self._early: list[tuple[WorkerId, Message]] = []
        self._begin()

    def _begin(self) -> None:
        self._mine: Said | None = None
        self._heard: dict[WorkerId, Contribute] = {}  # as the leader
        self._accepted: Accepted | None = None
        self._proposed: Accepted | None = None  # as the leader, the newest of its own
        self._bound = False  # the proposal was an earlier leader's and must not change
        self._accepts: set[WorkerId] = set()
        self._told: WorkerId | None = None  # the leader that knows what this worker said
        self._attempt = 0
        self.called = self.alarmed = False

    # -- what the shell does -------------------------------------------------------------------------------------

    @property
    def living(self) -> list[WorkerId]:
        """The world's workers that are not lost, in order."""
        return [worker for worker in self.world if worker not in self._lost]

    @property
    def entered(self) -> bool:
        """Whether this worker takes part in the round already."""
        return self._mine is not None

    @property
    def missing(self) -> list[WorkerId]:
        """Whom this worker, as the leader, waits for; nobody when it does not lead."""
        if self._mine is None or self._leader != self.me:
            return []
        answered = self._accepts if self._proposed else {self.me, *self._heard}
        return [worker for worker in self.living if worker not in answered]

    def enter(self, said: Said, wake: Wake | None) -> None:
        """Take part in the round; `wake` calls the others, who may not know yet that there is one."""
        self._mine = said
        if wake is not None:
            self._send_to(self.living, wake)
        self._drive()

    def restrict(self, workers: Iterable[WorkerId]) -> None:
        """The next rounds are of these only; all do the same, before they enter the next."""
        keep = set(workers)
        self.world = tuple(worker for worker in self.world if worker in keep)

    def lose(self, worker: WorkerId) -> None:
        """A worker is lost for good; nothing from it is listened to any more."""
        leader = self._leader
        self._lost.add(worker)
        self._heard.pop(worker, None)
        if self._mine is not None and self._leader == self.me != leader:
            self._send_to(self.living, Wake(self.number, alarm=True))  # who knows the outcome already will tell
        self._drive()

    def hear(self, sender: WorkerId, message: Message) -> None:
        """A message from another worker of this world, or of an earlier one."""
        if sender in self._lost or self.expelled:
            return
        if message.number > self.number:
            self._early.append((sender, message))
        elif message.number < self.number:
            late = message.number == self.number - 1 and not isinstance(message, Decided)
            if late and self.last is not None:
                self.outbox.append((sender, Decided(self.last.number, self.last)))
        else:
            self._take(sender, message)

    # -- what the machine does -----------------------------------------------------------------------------------

    @property
    def _leader(self) -> WorkerId | None:
        return next(iter(self.living), None)

    def _take(self, sender: WorkerId, message: Message) -> None:
        match message:
            case Wake(alarm=alarm):
                self.called = True
                self.alarmed |= alarm
            case Contribute():
                self._heard[sender] = message
            case Propose(ballot=ballot, outcome=outcome):
                if self._mine is not None and (self._accepted is None or ballot > self._accepted.ballot):
                    self._accepted = Accepted(ballot, outcome)
                    self.outbox.append((sender, Accept(self.number, ballot)))
            case Accept(ballot=ballot):
                if self._proposed is not None and ballot == self._proposed.ballot:
                    self._accepts.add(sender)
            case Decided(outcome=outcome):
                self._decide(outcome)
                return
        self._drive()

    def _drive(self) -> None:
        """Do what can be done now."""
        if self._mine is None or self.expelled:
            return
        leader = self._leader
        if leader != self.me:
            if leader is not None and leader != self._told:
                self._told = leader
                self.outbox.append((leader, Contribute(self.number, self._mine, self._accepted)))
            return
        if self._proposed is None:
            if all(worker in self._heard for worker in self.living if worker != self.me):
                self._propose()
        elif set(self.living) <= self._accepts:
            dead = [said for said in self._proposed.outcome.said if said.worker in self._lost]
            if dead and not self._bound:
                self._propose()  # nobody was told yet: leave the dead out
            else:
                self._decide(self._proposed.outcome)

    def _propose(self) -> None:
        known = [heard.accepted for heard in self._heard.values()] + [self._accepted]
        newest = max((one for one in known if one is not None), key=lambda one: one.ballot, default=None)
        if self._proposed is None and newest is not None:
            self._bound, self._attempt = True, newest.ballot[0]
        outcome = newest.outcome if self._bound and newest is not None else self._gathered()
        self._attempt += 1
        ballot = (self._attempt, self.world.index(self.me))
        self._proposed = self._accepted = Accepted(ballot, outcome)
        self._accepts = {self.me}
        self._send_to(self.living, Propose(self.number, ballot, outcome))
        self._drive()

    def _gathered(self) -> Outcome:
        assert self._mine is not None
        said = tuple(self._mine if worker == self.me else self._heard[worker].said for worker in self.living)
        opens = any(one.opens for one in said)
        return Outcome(self.number, said, self.candidates if opens else ())

    def _decide(self, outcome: Outcome) -> None:
        before, self.last = self.living, outcome
        leads = self._proposed is not None and self._proposed.outcome == outcome
        told = before if leads else [worker for worker in before if worker not in outcome.world]
        self._send_to([*told, *(member.worker for member in outcome.joining)], Decided(self.number, outcome))
        self.number += 1
        self.world = outcome.world
        self.expelled = self.me not in outcome.world
        self._begin()
        early, self._early = self._early, []
        for sender, message in early:
            self.hear(sender, message)

    def _send_to(self, workers: Iterable[WorkerId], message: Message) -> None:
        self.outbox += [(worker, message) for worker in workers if worker != self.me]
