"""Agreement in rounds, with messages in any order between different workers, and deaths at any moment."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.rounds import (
    Accepted,
    Contribute,
    Decided,
    Member,
    Message,
    Outcome,
    Propose,
    Rounds,
    Said,
    Wake,
)

LOST = "lost"


def worker(number: int) -> WorkerId:
    return WorkerId("here", number)


def said(number: int, text: bytes = b"", *, opens: bool = False) -> Said:
    return Said(Member(worker(number), f"127.0.0.1:{9000 + number}"), "facts", text, opens)


class Network:
    """Workers that run the machine, and wires between every two of them: in order, and cut anywhere by a death."""

    def __init__(self, size: int):
        self.nodes = {worker(i): Rounds(worker(i), [worker(j) for j in range(size)]) for i in range(size)}
        self.wires: dict[tuple[WorkerId, WorkerId], deque[Message | str]] = {
            (a, b): deque() for a in self.nodes for b in self.nodes if a != b
        }
        self.dead: set[WorkerId] = set()
        self.outcomes: dict[WorkerId, dict[int, Outcome]] = {node: {} for node in self.nodes}

    @property
    def living(self) -> list[WorkerId]:
        return [node for node in self.nodes if node not in self.dead]

    def collect(self, node: WorkerId) -> None:
        """Take over what a machine sends, and its outcome."""
        machine = self.nodes[node]
        outbox, machine.outbox = machine.outbox, []
        for to, message in outbox:
            self.wires[node, to].append(message)
        if machine.last is not None:
            known = self.outcomes[node].setdefault(machine.last.number, machine.last)
            assert known == machine.last

    def enter(self, node: WorkerId, text: bytes) -> None:
        machine = self.nodes[node]
        machine.enter(said(node.slot, text), Wake(machine.number))
        self.collect(node)

    def deliver(self, wire: tuple[WorkerId, WorkerId]) -> None:
        sender, to = wire
        message = self.wires[wire].popleft()
        if to in self.dead:
            return
        if message == LOST:
            self.nodes[to].lose(sender)
        else:
            assert not isinstance(message, str)
            self.nodes[to].hear(sender, message)
        self.collect(to)

    def kill(self, node: WorkerId, cut: int) -> None:
        """Of what it has sent, the newest `cut` messages on each wire never arrive; then end-of-file."""
        self.dead.add(node)
        for (sender, _), wire in self.wires.items():
            if sender == node:
                for _ in range(min(cut, len(wire))):
                    wire.pop()
                wire.append(LOST)

    @property
    def busy(self) -> list[tuple[WorkerId, WorkerId]]:
        return [wire for wire, messages in self.wires.items() if messages]


def check(network: Network, rounds: int) -> None:
    """Outcomes are the same for all who ever got them, and all who live got all of them."""
    for number in range(rounds):
        versions = {outcomes[number] for outcomes in network.outcomes.values() if number in outcomes}
        assert len(versions) == 1, f"round {number}: {versions}"
        for node in network.living:
            assert number in network.outcomes[node]
            assert not network.nodes[node].expelled


@settings(max_examples=300, deadline=None)
@given(data=st.data(), size=st.integers(2, 5), rounds=st.integers(1, 3))
def test_one_outcome_whatever_dies(data: st.DataObject, size: int, rounds: int) -> None:
    network = Network(size)
    while True:
        entering = [
            node for node in network.living if network.nodes[node].number < rounds and not network.nodes[node].entered
        ]
        choices: list[tuple[str, object]] = [("deliver", wire) for wire in network.busy]
        choices += [("enter", node) for node in entering]
        if not choices:
            break
        if len(network.living) > 1 and data.draw(st.integers(0, 9), label="kill?") == 0:
            victim = data.draw(st.sampled_from(network.living), label="victim")
            network.kill(victim, data.draw(st.integers(0, 3), label="cut"))
            continue
        kind, what = data.draw(st.sampled_from(choices), label="next")
        if kind == "deliver":
            assert isinstance(what, tuple)
            network.deliver(what)
        else:
            assert isinstance(what, WorkerId)
            network.enter(what, bytes([network.nodes[what].number]))
    check(network, rounds)


def settle(network: Network) -> None:
    while network.busy:
        network.deliver(network.busy[0])


def test_everything_that_was_said_is_in_the_outcome_in_the_worlds_order() -> None:
    network = Network(3)
    for number in (2, 0, 1):
        network.enter(worker(number), b"from %d" % number)
    settle(network)
    outcome = network.outcomes[worker(2)][0]
    assert [one.payload for one in outcome.said] == [b"from 0", b"from 1", b"from 2"]
    assert outcome.world == (worker(0), worker(1), worker(2))


def test_a_proposal_that_somebody_may_have_been_told_stays() -> None:
    """The leader dies after it has told one, who dies too; the last one must still come to the same outcome."""
    network = Network(3)
    for number in range(3):
        network.enter(worker(number), b"")
    settle_but(network, Decided)
    network.deliver((worker(0), worker(1)))
    network.kill(worker(0), cut=9)
    network.kill(worker(1), cut=9)
    settle(network)
    assert network.outcomes[worker(2)][0] == network.outcomes[worker(1)][0]
    assert len(network.outcomes[worker(2)][0].said) == 3


def settle_but(network: Network, kind: type[Message]) -> None:
    """Deliver everything up to the first message of a kind on each wire."""
    while ready := [wire for wire in network.busy if not isinstance(network.wires[wire][0], kind)]:
        network.deliver(ready[0])


def test_the_dead_are_left_out_while_nobody_was_told() -> None:
    network = Network(3)
    for number in range(3):
        network.enter(worker(number), b"")
    settle_but(network, Propose)
    network.kill(worker(2), cut=9)
    settle(network)
    assert network.outcomes[worker(0)][0].world == (worker(0), worker(1))


def test_whoever_was_left_out_is_told() -> None:
    """The connection between two broke, and the first of them leads: the other is out, and hears it from a third."""
    network = Network(3)
    network.nodes[worker(0)].lose(worker(2))
    network.nodes[worker(2)].lose(worker(0))
    for number in range(3):
        network.enter(worker(number), b"")
    settle(network)
    machine = network.nodes[worker(2)]
    assert machine.expelled
    assert machine.last is not None
    assert machine.last.world == (worker(0), worker(1))


def test_a_wake_up_calls_and_an_outcome_ends_the_call() -> None:
    network = Network(2)
    network.enter(worker(0), b"")
    settle(network)
    assert network.nodes[worker(1)].called
    network.enter(worker(1), b"")
    settle(network)
    assert not network.nodes[worker(1)].called


def test_a_wake_up_that_came_early_calls_later() -> None:
    network = Network(2)
    for number in range(2):
        network.enter(worker(number), b"")
    settle_but(network, Decided)
    network.enter(worker(0), b"again")
    settle(network)
    assert network.nodes[worker(1)].number == 1
    assert network.nodes[worker(1)].called


def test_candidates_come_in_when_somebody_opens() -> None:
    newcomer = Member(WorkerId("here", 7), "127.0.0.1:9007")
    for opens in (False, True):
        machine = Rounds(worker(0), [worker(0)])
        machine.candidates = (newcomer,)
        machine.enter(said(0, opens=opens), Wake(0))
        assert machine.last is not None
        assert machine.last.joining == ((newcomer,) if opens else ())
        assert [to for to, _ in machine.outbox] == ([newcomer.worker] if opens else [])
        assert machine.world == ((worker(0), newcomer.worker) if opens else (worker(0),))


def test_duplicates_and_strangers_change_nothing() -> None:
    network = Network(2)
    for number in range(2):
        network.enter(worker(number), b"")
    settle(network)
    before = network.outcomes[worker(0)][0]
    machine = network.nodes[worker(0)]
    late: list[Message] = [Wake(0), Contribute(0, said(1), None), Propose(0, (9, 1), before), Decided(0, before)]
    for message in late:
        machine.hear(worker(1), message)
    assert (machine.number, machine.last, machine.called) == (1, before, False)
    assert {type(message) for _, message in machine.outbox} == {Decided}  # what it answers to whoever is behind


def test_the_newest_accepted_proposal_wins() -> None:
    machine = Rounds(worker(1), [worker(0), worker(1), worker(2)])
    older = Outcome(0, (said(0), said(1), said(2)))
    newer = Outcome(0, (said(0), said(1)))
    machine.enter(said(1), Wake(0))
    machine.hear(worker(0), Propose(0, (1, 0), older))
    machine.lose(worker(0))
    machine.hear(worker(2), Contribute(0, said(2), Accepted((2, 0), newer)))
    proposals = [message for _, message in machine.outbox if isinstance(message, Propose) and message.ballot[1] == 1]
    assert [(one.ballot, one.outcome) for one in proposals] == [((3, 1), newer)]


def test_the_leader_knows_whom_it_waits_for() -> None:
    machine = Rounds(worker(0), [worker(0), worker(1)])
    assert machine.missing == []
    machine.enter(said(0), Wake(0))
    assert machine.missing == [worker(1)]
