"""Does the machine let many processes of one job talk to each other: names, sockets, shared memory, files, cores.

Only Linux is known here. What is measured can be given as an argument, so that tests need no other machine.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
from pathlib import Path

from ft_horovod.install.check import Check
from ft_horovod.install.variant import gpu_names

SHM_NEEDED_BYTES = 256 << 20
PORTS_NEEDED = 1000
FILES_NEEDED = 1024


def check_host(host: str | None = None, address: str = "127.0.0.1") -> Check:
    """The host's name resolves, and a process can reach another through a TCP port that it opens."""
    host = host or socket.gethostname()
    try:
        resolved = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)[0][4][0]
    except OSError as error:
        advice = f"add the name to /etc/hosts, for example: 127.0.1.1 {host}"
        return Check(name="host name", status="fail", found=f"{host}: {error.strerror or error}", advice=advice)
    try:
        with socket.create_server((address, 0)) as server:
            socket.create_connection(server.getsockname()[:2], timeout=5).close()
    except OSError as error:
        advice = "allow TCP between processes of this machine (loopback up? firewall? sandbox?)"
        return Check(name="host name", status="fail", found=f"{address}: {error.strerror or error}", advice=advice)
    return Check(name="host name", status="ok", found=f"{host} is {resolved}; TCP within the machine works")


def check_ports(proc: Path = Path("/proc")) -> Check:
    """There are ephemeral ports left."""
    try:
        low, high = map(int, (proc / "sys/net/ipv4/ip_local_port_range").read_text().split())
        tables = [(proc / "net" / name).read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    except (OSError, ValueError) as error:
        advice = "nothing to do if this is not Linux or /proc is hidden"
        return Check(name="ports", status="warn", found=f"cannot be counted: {error}", advice=advice)
    used = {int(line.split()[1].rpartition(":")[2], 16) for table in tables for line in table if line.strip()}
    free = high - low + 1 - sum(low <= port <= high for port in used)
    if free < PORTS_NEEDED:
        advice = "widen net.ipv4.ip_local_port_range, or end what holds so many connections (ss -s)"
        return Check(name="ports", status="warn", found=f"{free} ephemeral ports free", advice=advice)
    return Check(name="ports", status="ok", found=f"{free} ephemeral ports free")


def check_shared_memory(total_bytes: int | None = None, free_bytes: int | None = None) -> Check:
    """/dev/shm holds what the workers of a host share."""
    if total_bytes is None or free_bytes is None:
        try:
            state = os.statvfs("/dev/shm")
        except OSError as error:
            advice = "mount a tmpfs of at least 256 MB on /dev/shm"
            return Check(name="shared memory", status="fail", found=f"/dev/shm: {error.strerror}", advice=advice)
        total_bytes, free_bytes = state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize
    found = f"/dev/shm: {free_bytes >> 20} of {total_bytes >> 20} MB free"
    if free_bytes >= SHM_NEEDED_BYTES:
        return Check(name="shared memory", status="ok", found=found)
    need = f"{SHM_NEEDED_BYTES >> 20} MB are needed"
    if total_bytes < SHM_NEEDED_BYTES:
        advice = (
            f"{need}: in a container, docker run --shm-size=1g (its default is 64 MB); else remount /dev/shm larger"
        )
    else:
        advice = f"{need}: remove what dead programs left in /dev/shm"
    return Check(name="shared memory", status="fail", found=found, advice=advice)


def check_open_files(limit: int | None = None) -> Check:
    """Each worker has sockets to many others."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    found = "no limit" if limit == resource.RLIM_INFINITY else f"{limit} a process"
    if limit != resource.RLIM_INFINITY and limit < FILES_NEEDED:
        return Check(
            name="open files", status="warn", found=found, advice=f"ulimit -n {FILES_NEEDED * 4} before the run"
        )
    return Check(name="open files", status="ok", found=found)


def check_gpu(names: tuple[str, ...] | None = None) -> Check:
    """Cards that nvidia-smi lists; none is fine."""
    if names is None:
        names = gpu_names()
    return Check(name="GPU", status="ok", found=f"{len(names)}: {names[0]}" if names else "none: training on the CPU")


def check_ssh(path: str) -> Check:
    """mpirun reaches other hosts by ssh."""
    ssh = shutil.which("ssh", path=path)
    if ssh is None:
        advice = "only runs on several hosts need it: apt-get install openssh-client"
        return Check(name="ssh", status="warn", found="not found", advice=advice)
    return Check(name="ssh", status="ok", found=ssh)


def check_cores(usable: int | None = None, workers: int = 4) -> Check:
    """A worker a core; with fewer cores training works, but its times say little."""
    if usable is None:
        usable = len(os.sched_getaffinity(0))
    found = f"{usable} usable"
    if usable < workers:
        advice = f"{workers} workers, the default, will share them: fine for a try, not for measuring"
        return Check(name="cores", status="warn", found=found, advice=advice)
    return Check(name="cores", status="ok", found=found)
