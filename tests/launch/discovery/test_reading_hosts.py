"""Asking real files and real commands, those that fail too."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from ft_horovod.core.errors import ConfigError
from launch.discovery.hosts import HostSlots
from launch.discovery.reading import MAX_TEXT_BYTES, Source, ask, read_file, run_command

LONG_S = 20.0  # nothing here takes this long
SHORT_S = 0.3


def refused(problem: str, source: Source, limit_s: float = LONG_S, **environment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ask(source, environment, limit_s)
    assert problem in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("a\nb:3\n")
    for kind in ("static", "hostfile"):
        assert ask(Source(kind, str(path), 2), {}, LONG_S) == (HostSlots("a", 2), HostSlots("b", 3))  # type: ignore[arg-type]
    path.write_text("a\na\nb\n")
    assert ask(Source("pbs"), {"PBS_NODEFILE": str(path)}, LONG_S) == (HostSlots("a", 2), HostSlots("b", 1))
    assert ask(Source("pbs", slots=4), {"PBS_NODEFILE": str(path)}, LONG_S)[1] == HostSlots("b", 4)
    lsf = {"LSB_DJOB_HOSTFILE": str(path), "LSB_MCPU_HOSTS": "old 1", "LSB_HOSTS": "old"}
    assert ask(Source("lsf"), lsf, LONG_S) == (HostSlots("a", 2), HostSlots("b", 1))
    assert ask(Source("lsf"), {"LSB_MCPU_HOSTS": "c 2", "LSB_HOSTS": "old"}, LONG_S) == (HostSlots("c", 2),)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused("hosts: cannot be read: No such file or directory", Source("static", str(tmp_path / "hosts")))
    refused("cannot be read: Is a directory", Source("static", str(tmp_path)))
    (tmp_path / "binary").write_bytes(b"a:1\n\xff\n")
    refused("binary:2: is not text (UTF-8)", Source("hostfile", str(tmp_path / "binary")))
    (tmp_path / "long").write_bytes(b"a\n" * (MAX_TEXT_BYTES // 2 + 1))
    refused("long: is longer than 4 MiB", Source("static", str(tmp_path / "long")))


def test_a_file_that_does_not_answer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"pipe: could not be read within 0\.3 s"):
        read_file(tmp_path / "pipe", SHORT_S)
    os.close(os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK))  # lets the reader go


def test_a_command() -> None:
    source = Source("command", "echo a:2; echo 'not a host' >&2; echo b slots=3")
    assert ask(source, {}, LONG_S) == (HostSlots("a", 2), HostSlots("b", 3))


def test_commands_that_fail(tmp_path: Path) -> None:
    script = tmp_path / "script"
    refused(f"command '{script}': exit 127: it, or something it calls, was not found", Source("command", str(script)))
    script.write_text("#!/bin/sh\necho a:1\n")
    refused(f"command '{script}': exit 126: it is not executable", Source("command", str(script)))
    refused("command 'echo a; exit 3': exit 3", Source("command", "echo a; exit 3"))
    refused("killed by signal 9", Source("command", "kill -9 $$"))
    refused("output of 'echo a; echo no hosts yet':2: expected HOST", Source("command", "echo a; echo no hosts yet"))
    refused("output of 'true': names no host", Source("command", "true"))
    refused("output of 'yes': is longer than 4 MiB", Source("command", "yes"))
    refused(":2: is not text", Source("command", r"printf 'a\n\377\n'"))


def test_a_slow_command_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = f"sleep 1000 & echo $! > {pids}; echo a:1; wait"
    refused("did not end within 0.5 s and was killed", Source("command", command), limit_s=0.5)
    assert ends(int(pids.read_text()))


def test_the_children_of_a_command_that_was_killed_end_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    refused("killed by signal 15", Source("command", f"sleep 1000 & echo $! > {pids}; kill $$"))
    assert ends(int(pids.read_text()))


def ends(pid: int) -> bool:
    give_up = time.monotonic() + LONG_S
    while time.monotonic() < give_up:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_child_left_behind_does_not_hold_us_up(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    output = run_command(f"sleep 1000 & echo $! > {pids}; echo a:1", LONG_S)
    os.kill(int(pids.read_text()), 9)  # it was alive: nobody waited for it
    assert output == "a:1\n"
