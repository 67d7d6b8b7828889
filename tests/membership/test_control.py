"""Control connections between threads of this process: real sockets, real rounds, no Horovod."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from rendezvous import rendezvous

from ft_horovod.core.errors import Dismissed, Fenced, RendezvousLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.control import Control
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.place import Place
from ft_horovod.membership.rounds import Outcome
from ft_horovod.membership.wire import Stored

LIMIT_S = 20.0


@dataclass
class Crew:
    """Remembers what it was told."""

    broke_at: float | None = None
    called_at: float | None = None
    items: list[Stored] = field(default_factory=list)
    brought: dict[str, bytes] = field(default_factory=dict)

    def called(self) -> None:
        self.called_at = self.called_at or time.monotonic()

    def broken(self) -> None:
        self.broke_at = self.broke_at or time.monotonic()

    def stored(self, item: Stored) -> None:
        self.items.append(item)

    def arrived(self, peer: WorkerId, purpose: str, connection: socket.socket) -> None:
        with connection:
            self.brought[f"{peer} {purpose}"] = connection.recv(100)

    def tick(self) -> None:
        pass


class Job:
    """Some workers that are threads."""

    def __init__(self, port: int, workers: int):
        self.port, self.workers = port, workers
        self.pool = ThreadPoolExecutor(workers + 2)
        self.crews: dict[WorkerId, Crew] = {}
        self.controls: dict[WorkerId, Control] = {}
        self.started: list[WorkerId] = []

    def control(self, me: WorkerId, number: int | None, secret: bytes = b"right") -> Control:
        place = Place(me=me, number=number, started=self.workers, address="127.0.0.1", interface="lo", secret=secret)
        crew = self.crews[me] = Crew()
        keys = KeyStore("127.0.0.1", self.port, "test")
        self.controls[me] = Control(place, keys, crew, beat=lambda: None, start=self.started.extend)
        return self.controls[me]

    def all(self, do: Callable[[Control], object], workers: Sequence[WorkerId] | None = None) -> list[object]:
        """Everybody does it at once."""
        chosen = [self.controls[worker] for worker in workers or self.controls]
        futures = [self.pool.submit(do, control) for control in chosen]
        return [future.result(LIMIT_S) for future in futures]

    def come_up(self) -> None:
        for number in range(self.workers):
            self.control(worker(number), number)
        self.all(Control.enter_world)

    def close(self) -> None:
        for control in self.controls.values():
            control.close()
        self.pool.shutdown()


def worker(number: int, incarnation: int = 0) -> WorkerId:
    return WorkerId("here", number, incarnation)


def say(text: bytes, *, opens: bool = False) -> Callable[[Control], Outcome]:
    return lambda control: control.call("facts", text, alarm=False, opens=opens)


def until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.005)


@pytest.fixture
def job() -> Iterator[Job]:
    with rendezvous() as port:
        job = Job(port, 3)
        yield job
        job.close()


def test_all_get_what_all_said(job: Job) -> None:
    job.come_up()
    outcomes = job.all(say(b"here"))
    assert len(set(outcomes)) == 1
    assert isinstance(outcomes[0], Outcome)
    assert outcomes[0].world == (worker(0), worker(1), worker(2))
    assert [said.payload for said in outcomes[0].said] == [b"here"] * 3


def test_a_death_is_heard_at_once_and_the_others_agree_without_it(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    job.all(lambda control: control.watch((worker(0), worker(1), worker(2))))
    died_at = time.monotonic()
    job.controls[worker(0)].close()
    survivors = [worker(1), worker(2)]
    until(lambda: all(job.crews[one].broke_at is not None for one in survivors))
    assert max(job.crews[one].broke_at or 0.0 for one in survivors) - died_at < 1.0
    outcomes = job.all(say(b"again"), survivors)
    assert [outcome.world for outcome in outcomes if isinstance(outcome, Outcome)] == [tuple(survivors)] * 2


def test_a_forked_child_does_not_keep_its_dead_parent_alive(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    job.all(lambda control: control.watch((worker(0), worker(1), worker(2))))
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:  # as a data loader's process would
        os.read(wait, 1)
        os._exit(0)
    try:
        job.controls[worker(0)].close()
        until(lambda: all(job.crews[worker(number)].broke_at is not None for number in (1, 2)))
    finally:
        os.write(go, b"!")
        os.waitpid(child, 0)
        os.close(wait)
        os.close(go)


def test_whoever_is_not_watched_may_go(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    stay = (worker(0), worker(1))
    job.all(lambda control: control.watch(stay))
    job.controls[worker(2)].close()
    until(lambda: not any(job.controls[one].linked_to(worker(2)) for one in stay))
    assert all(job.crews[one].broke_at is None for one in stay)


def test_a_worker_that_waits_wakes_the_others(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    for crew in job.crews.values():
        crew.called_at = None  # they were called to the first round
    waiting: Future[Outcome] = job.pool.submit(say(b""), job.controls[worker(2)])
    until(lambda: job.crews[worker(0)].called_at is not None and job.crews[worker(1)].called_at is not None)
    assert job.crews[worker(0)].broke_at is None
    assert not waiting.done()
    job.all(say(b""), [worker(0), worker(1)])
    assert len(waiting.result(LIMIT_S).said) == 3


def test_newcomers_are_let_in_and_told_of_the_round(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    newcomers = [worker(7, 1), worker(8, 1)]
    job.all(lambda control: control.invite(newcomers))
    assert job.started == newcomers
    for newcomer in newcomers:
        job.control(newcomer, None)
    coming = [job.pool.submit(Control.enter_world, job.controls[newcomer]) for newcomer in newcomers]
    old = [worker(0), worker(1), worker(2)]
    until(lambda: all(job.controls[one].newcomers_ready() for one in old))
    outcomes = job.all(say(b"", opens=True), old)
    assert all(isinstance(outcome, Outcome) and len(outcome.joining) == 2 for outcome in outcomes)
    for one in coming:
        one.result(LIMIT_S)
    assert isinstance(outcomes[0], Outcome)
    let_in = outcomes[0]
    job.all(lambda control: control.let_in(let_in), old)
    together = job.all(say(b"together"))
    assert {outcome.world for outcome in together if isinstance(outcome, Outcome)} == {(*old, *newcomers)}
    assert not job.controls[worker(0)].inviting


def test_a_newcomer_ends_when_its_host_is_lost(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    job.all(lambda control: control.invite([worker(7, 1)]))
    newcomer = job.control(worker(7, 1), None)
    coming = job.pool.submit(newcomer.enter_world)
    survivors = [worker(1), worker(2)]
    until(lambda: all(job.controls[one].newcomers_ready() for one in survivors))
    job.controls[worker(0)].close()
    job.all(say(b"", opens=True), survivors)
    with pytest.raises(Dismissed):
        coming.result(LIMIT_S)


def test_a_newcomer_ends_when_nobody_is_there(job: Job) -> None:
    with pytest.raises(Dismissed, match="before it could join"):
        job.control(worker(7, 1), None).enter_world()


def test_who_does_not_know_the_secret_is_not_listened_to(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    job.all(lambda control: control.invite([worker(7, 1)]))
    with pytest.raises(Dismissed):
        job.control(worker(7, 1), None, secret=b"wrong").enter_world()
    assert not any(job.controls[worker(number)].newcomers_ready() for number in range(3))


def test_noise_at_the_door_disturbs_nobody(job: Job) -> None:
    job.come_up()
    address = job.all(say(b""))[0]
    assert isinstance(address, Outcome)
    for member in address.members:
        host, _, port = member.address.rpartition(":")
        with socket.create_connection((host, int(port)), LIMIT_S) as stranger:
            stranger.sendall(b"\xff" * 64)
            received = b"?"
            while received:  # hung up on, after the nonce
                try:
                    received = stranger.recv(100)
                except ConnectionResetError:
                    break
    assert len(set(job.all(say(b"again")))) == 1


def test_transfers_have_connections_of_their_own(job: Job) -> None:
    job.come_up()
    job.all(say(b""))
    connection = job.controls[worker(0)].reach(worker(2), "state")
    assert connection is not None
    with connection:
        connection.sendall(b"bytes")
    until(lambda: job.crews[worker(2)].brought == {"here:0 state": b"bytes"})


def test_a_worker_that_was_given_up_ends(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither answers nor dies: after a while the others go on, and it hears so when it wakes up."""
    monkeypatch.setattr("ft_horovod.membership.control._GIVE_UP_S", 0.2)
    job.come_up()
    job.all(say(b""))
    outcomes = job.all(say(b""), [worker(0), worker(1)])
    assert [outcome.world for outcome in outcomes if isinstance(outcome, Outcome)] == [(worker(0), worker(1))] * 2
    with pytest.raises(Fenced):
        say(b"")(job.controls[worker(2)])


def test_a_rendezvous_that_is_not_there_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RendezvousLost, match=f"127.0.0.1:{port}"):
        KeyStore("127.0.0.1", port, "test").get("x")


def test_threads_end(job: Job) -> None:
    before = threading.active_count()
    control = job.control(worker(5), None)
    assert threading.active_count() == before + 1
    control.close()
    assert threading.active_count() == before
