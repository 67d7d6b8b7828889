"""Policies by name. To add one: a class like those beside this file, and a line here. Knows names only."""

from __future__ import annotations

from collections.abc import Callable

from ft_horovod.core.errors import ConfigError
from simulator.policies.in_place import ReconfigureInPlace, RedundantComputation
from simulator.policies.parameter_server import ParameterServer
from simulator.policies.peer_replication import PeerReplication
from simulator.policies.policy import Policy, World
from simulator.policies.restart import (
    OverlappedRestart,
    RestartFromDisk,
    RestartFromHostMemory,
    StockElasticHorovod,
    Torchrun,
)
from simulator.policies.toolkit import Toolkit

Maker = Callable[[World], Policy]

_POLICIES: dict[str, Maker] = {
    "toolkit": Toolkit,
    "restart_disk": RestartFromDisk,
    "restart_memory": RestartFromHostMemory,
    "restart_overlapped": OverlappedRestart,
    "elastic_horovod": StockElasticHorovod,
    "torchrun": Torchrun,
    "peer_replication": PeerReplication,
    "reconfigure": ReconfigureInPlace,
    "redundant": RedundantComputation,
    "parameter_server": ParameterServer,
}


def register(name: str, maker: Maker) -> None:
    """Add a policy of one's own, or replace one."""
    _POLICIES[name] = maker


def names() -> tuple[str, ...]:
    """All names, in the order in which they are compared."""
    return tuple(_POLICIES)


def find(name: str, *, source: str | None = None) -> Maker:
    """The policy of this name. Raises ConfigError."""
    if name not in _POLICIES:
        raise ConfigError(f"there is no policy {name!r}; known: {', '.join(_POLICIES)}", source=source, key="policy")
    return _POLICIES[name]
