"""Hosts for tests: network namespaces on one bridge, each with a name and an address of its own. Needs root and `ip`.

mpirun reaches them through `agent`, a program that does what ssh does: run a command on a host, if that is on the
network. Unplugging a host takes its link down; crashing it kills every process in it as well. Knows nothing of what
runs there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

_turn = itertools.count()

_AGENT = """#!/bin/sh
# As ssh: agent [options] HOST COMMAND...
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
case $host in
%s
*) echo "agent: no such host: $host" >&2; exit 255;;
esac
ip -n "$space" link show eth0 | grep -q "state UP" || { echo "agent: $host cannot be reached" >&2; exit 255; }
exec ip netns exec "$space" unshare -u sh -c 'hostname "$0"; exec sh -c "$1"' "$space" "$*"
"""


def why_not() -> str | None:
    """Why there can be no such hosts here, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in ("ip", "unshare") if shutil.which(name) is None]
    if missing:
        return f"network namespaces need {' and '.join(missing)}"
    probe = subprocess.run(["ip", "netns", "add", f"ftp{os.getpid()}"], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"network namespaces are not allowed here: {probe.stderr.strip()}"
    _ip("netns", "del", f"ftp{os.getpid()}")
    return None


class Hosts:
    """Hosts that are up."""

    def __init__(self, names: list[str], net: str, agent: Path):
        self.names, self._net, self.agent = names, net, agent
        self.network = f"{net}.0/24"

    def address(self, place: int) -> str:
        return f"{self._net}.{11 + place}"

    def unplug(self, place: int) -> None:
        """Cut a host off the network; its processes live on."""
        _ip("-n", self.names[place], "link", "set", "eth0", "down")

    def pids(self, place: int) -> list[int]:
        """All processes of a host."""
        found = subprocess.run(["ip", "netns", "pids", self.names[place]], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def crash(self, place: int) -> None:
        """Kill all processes of a host and take it off the network, as a power cut does."""
        self.unplug(place)
        for pid in self.pids(place):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def hosts_up(count: int, folder: Path) -> Iterator[Hosts]:
    """`count` hosts; all that ran in them is ended afterwards."""
    tag = f"{os.getpid() % 10_000}{next(_turn) % 36:x}"  # names are free again only some time after they are given up
    bridge, net = f"ftb{tag}", f"10.77.{os.getpid() % 251}"
    names = [f"ft{tag}h{i}" for i in range(count)]
    agent = folder / "agent"
    cases = "\n".join(f"{net}.{11 + i}|{name}) space={name};;" for i, name in enumerate(names))
    agent.write_text(_AGENT % cases)
    agent.chmod(0o755)
    hosts = Hosts(names, net, agent)
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for place, name in enumerate(names):
            outside = f"ftv{tag}{place}"
            _ip("netns", "add", name)
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", outside, "master", bridge, "up")
            _ip("-n", name, "addr", "add", f"{hosts.address(place)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "eth0", "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield hosts
    finally:
        for place, name in enumerate(names):
            for pid in hosts.pids(place):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
