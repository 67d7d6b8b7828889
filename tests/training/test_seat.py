"""What a worker that horovodrun started is told, and what it finds when it is told nonsense."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Board, Pulse
from ft_horovod.runfolder import RunFolder
from ft_horovod.training.seat import take_seat
from ft_horovod.training.seat_horovodrun import HorovodrunSeat, address_of, shared_secret

TOLD = {
    "HOROVOD_GLOO_RENDEZVOUS_ADDR": "10.0.0.9",
    "HOROVOD_GLOO_RENDEZVOUS_PORT": "4711",
    "HOROVOD_GLOO_IFACE": "lo",
    "HOROVOD_HOSTNAME": "node7",
    "HOROVOD_RANK": "5",
    "HOROVOD_SIZE": "8",
    "HOROVOD_LOCAL_RANK": "1",
}


def test_horovodrun_says_who_a_worker_is() -> None:
    seat = take_seat(TOLD, None)
    assert isinstance(seat, HorovodrunSeat)
    assert (seat.me, seat.number) == (WorkerId("node7", 1), 5)


def test_a_newcomer_is_told_its_name_by_whoever_started_it() -> None:
    seat = take_seat(TOLD, "node7:1#2")
    assert (seat.me, seat.number) == (WorkerId("node7", 1, 2), None)


@pytest.mark.parametrize("name", sorted(set(TOLD) - {"HOROVOD_GLOO_RENDEZVOUS_ADDR"}))
def test_a_variable_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: not set"):
        take_seat({key: value for key, value in TOLD.items() if key != name}, None)


def test_a_variable_that_is_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^HOROVOD_RANK: 'first' is not a number"):
        take_seat({**TOLD, "HOROVOD_RANK": "first"}, None)


def test_stages_need_mpirun(tmp_path: Path) -> None:
    pulse = Pulse(Board(tmp_path / "board"), 1, 0)
    with pytest.raises(ConfigError, match=r"layout\.stages"):
        take_seat(TOLD, None).connect(LayoutConfig(workers=4, stages=2), RunFolder(tmp_path), pulse)


def test_an_interface_has_an_address_or_is_named() -> None:
    assert address_of("lo") == "127.0.0.1"
    with pytest.raises(ConfigError, match="'none0' has no IPv4 address"):
        address_of("none0")


def test_all_find_one_secret_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda number: shared_secret(path, aside=str(number)), range(8)))
    assert len(found) == 1
    assert len(found.pop()) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_that_cannot_be_kept_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="secret cannot be kept"):
        shared_secret(tmp_path / "missing" / "secret", aside="1")
