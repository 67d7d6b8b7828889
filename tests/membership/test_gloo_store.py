"""The store that Gloo's ends find each other in: as Horovod asks, over HTTP."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import place
from ft_horovod.membership.gloo_ring import environment
from ft_horovod.membership.gloo_store import GlooStore

LIMIT_S = 10.0


class Published(list[tuple[int, str, bytes]]):
    def __call__(self, epoch: int, key: str, value: bytes) -> None:
        self.append((epoch, key, value))


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def store(published: Published) -> Iterator[GlooStore]:
    store = GlooStore(published)
    store.open(1)
    yield store
    store.close()


def ask(store: GlooStore, key: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{store.port}{key}", timeout=LIMIT_S) as answer:
        return bytes(answer.read())


def put(store: GlooStore, key: str, value: bytes) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{store.port}{key}", value, method="PUT")
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        assert answer.status == 200


def test_what_was_put_in_is_there_and_was_published(store: GlooStore, published: Published) -> None:
    put(store, "/global/0", b"\x00address")
    assert ask(store, "/global/0") == b"\x00address"
    assert published == [(1, "/global/0", b"\x00address")]


def test_what_is_not_there_yet_is_waited_for(store: GlooStore) -> None:
    threading.Timer(0.1, store.put, (1, "/global/1", b"later")).start()
    assert ask(store, "/global/1") == b"later"


def test_other_epochs_are_not_mixed_in(store: GlooStore) -> None:
    store.put(0, "/global/0", b"old")
    store.put(2, "/global/0", b"new")
    store.put(1, "/global/0", b"now")
    assert ask(store, "/global/0") == b"now"
    store.open(2)
    assert ask(store, "/global/0") == b"new"


def test_nobody_waits_when_the_group_is_broken(store: GlooStore) -> None:
    threading.Timer(0.1, store.give_up).start()
    started = time.monotonic()
    assert ask(store, "/global/1") == b""
    assert time.monotonic() - started < LIMIT_S
    store.open(2)
    store.put(2, "/global/1", b"again")
    assert ask(store, "/global/1") == b"again"


def test_ranks_of_a_host_are_neighbours() -> None:
    """Horovod reads the sizes of hosts at steps of those sizes; with mixed ranks it would read beyond the end."""
    workers = tuple(WorkerId(host, slot) for host, slot in (("b", 0), ("a", 0), ("b", 1), ("a", 1), ("b", 2)))
    layout = place(workers, 5)
    told = {str(worker): environment(worker, layout, 1, "lo") for worker in workers}
    assert {name: int(variables["HOROVOD_RANK"]) for name, variables in told.items()} == {
        "b:0": 0,
        "b:1": 1,
        "b:2": 2,
        "a:0": 3,
        "a:1": 4,
    }
    third = told["b:2"]
    assert (third["HOROVOD_LOCAL_RANK"], third["HOROVOD_LOCAL_SIZE"]) == ("2", "3")
    assert (third["HOROVOD_CROSS_RANK"], third["HOROVOD_CROSS_SIZE"]) == ("0", "1")
    assert (told["a:1"]["HOROVOD_CROSS_RANK"], told["a:1"]["HOROVOD_CROSS_SIZE"]) == ("1", "2")
