"""Which hosts are left, and whether they are enough."""

from pathlib import Path

import pytest

from ft_horovod.core.config import LauncherConfig, LayoutConfig, RunConfig
from ft_horovod.core.errors import ConfigError, QuorumLost
from launch.hosts import Host, parse_hosts, that_answer
from launch.restart import Ground, first_ground, ground_left


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("a:2,b", [Host("a", 2), Host("b", 1)]), (" a:1 , 10.0.0.1:16", [Host("a", 1), Host("10.0.0.1", 16)])],
)
def test_hosts_are_read_as_mpirun_reads_them(text: str, hosts: list[Host]) -> None:
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize("text", ["", "a:", "a:0", "a:x", "a,,b", ":2"])
def test_what_is_no_host_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="is not HOST or HOST:SLOTS"):
        parse_hosts(text)


@pytest.fixture
def agent(tmp_path: Path) -> str:
    """A remote shell that reaches hosts whose names begin with `up`, and hangs at those that begin with `slow`."""
    path = tmp_path / "agent"
    path.write_text('#!/bin/sh\ncase $1 in up*) exec "$2";; slow*) exec sleep 60;; esac\nexit 255\n')
    path.chmod(0o755)
    return str(path)


def run_on(hosts: str | None, agent: str, **layout: int) -> RunConfig:
    return RunConfig(launcher=LauncherConfig(hosts=hosts, agent=agent), layout=LayoutConfig(**layout))


def test_hosts_that_hang_do_not_answer(agent: str) -> None:
    hosts = parse_hosts("up1:2,slow1:2,down1:2,up2:3")
    assert that_answer(hosts, agent) == [Host("up1", 2), Host("up2", 3)]
    assert that_answer(hosts, f"{agent}-that-is-not-there") == []


def test_the_run_shrinks_to_the_room_there_is(agent: str) -> None:
    config = run_on("up1:2,down1:2,up2:2", agent, workers=5, spares=1, min_workers=3)
    assert first_ground(config) == Ground("up1:2,down1:2,up2:2", 6)
    left = ground_left(config, first_ground(config))
    assert left == Ground("up1:2,up2:2", 4, ("down1",))
    assert ground_left(config, left) == Ground("up1:2,up2:2", 4)  # nobody is lost twice


def test_too_little_room_is_said(agent: str) -> None:
    config = run_on("up1:2,down1:2", agent, workers=4, min_workers=3)
    with pytest.raises(QuorumLost, match="down1 lost: there is room for 2 workers, at least 3 are needed"):
        ground_left(config, first_ground(config))
    stages = run_on("up1:2,down1:2", agent, stages=4)
    with pytest.raises(QuorumLost, match="at least 4 are needed"):
        ground_left(stages, first_ground(stages))


def test_this_machine_is_always_there() -> None:
    config = run_on(None, "false", workers=4)
    assert ground_left(config, first_ground(config)) == Ground(None, 4)
