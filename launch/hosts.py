"""The hosts that mpirun is told to use, and which of them answer.

Knows `host:slots` lists and how to knock; what becomes of a run whose hosts are gone is `restart`'s.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ft_horovod.core.errors import ConfigError

_ANSWER_S = 5.0


class Host(NamedTuple):
    """A host and how many processes it has room for."""

    name: str
    slots: int

    def __str__(self) -> str:
        return f"{self.name}:{self.slots}"


def parse_hosts(text: str) -> list[Host]:
    """`a:2,b` as mpirun's --host has it; one slot when no number is given. Raises ConfigError."""
    hosts = []
    for part in text.split(","):
        name, colon, slots = part.strip().rpartition(":")
        if not colon:
            name, slots = part.strip(), "1"
        if not name or not slots.isdecimal() or int(slots) < 1:
            raise ConfigError(f"launcher.hosts: {part.strip()!r} is not HOST or HOST:SLOTS")
        hosts.append(Host(name, int(slots)))
    return hosts


def that_answer(hosts: Sequence[Host], agent: str) -> list[Host]:
    """The hosts on which `agent HOST true` ends well within 5 s; all are asked at once."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(lambda host: _answers(host, agent), hosts))
    return [host for host, fine in zip(hosts, answers, strict=True) if fine]


def _answers(host: Host, agent: str) -> bool:
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=3"] if agent == "ssh" else []
    try:
        asked = subprocess.run(
            [*agent.split(), *options, host.name, "true"], check=False, capture_output=True, timeout=_ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
