"""Whether a run whose mpirun is gone is started again, and where.

mpirun ends with any of its hosts. What the workers of the others held in memory outlives them, so that a new mpirun on
the hosts that answer goes on from there. Knows what is left to run on; `supervise` starts and ends processes.
"""

from __future__ import annotations

import msgspec

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import QuorumLost
from launch.hosts import Host, parse_hosts, that_answer


class Ground(msgspec.Struct, frozen=True):
    """What a run is started on: the hosts as mpirun is told them (None: this machine), and how many processes."""

    hosts: str | None
    processes: int
    lost: tuple[str, ...] = ()


def first_ground(config: RunConfig) -> Ground:
    """All that is configured."""
    return Ground(config.launcher.hosts, config.layout.workers + config.layout.spares)


def ground_left(config: RunConfig, ground: Ground) -> Ground:
    """What of `ground` still answers. Raises QuorumLost when it is too little for the run."""
    if ground.hosts is None:
        return ground
    hosts = parse_hosts(ground.hosts)
    return _shrink(config, ground, hosts, that_answer(hosts, config.launcher.agent))


def _shrink(config: RunConfig, ground: Ground, hosts: list[Host], alive: list[Host]) -> Ground:
    lost = tuple(host.name for host in hosts if host not in alive)
    room = sum(host.slots for host in alive)
    needed = max(config.layout.min_workers, config.layout.stages)
    if room < needed:
        raise QuorumLost(f"{', '.join(lost)} lost: there is room for {room} workers, at least {needed} are needed")
    return Ground(",".join(map(str, alive)), min(ground.processes, room), lost)
