"""The seat of a worker that horovodrun started, or a worker on the same host.

What horovodrun says stands in environment variables. The workers' secret is a file in the run folder that only its
owner can read: the rendezvous gives what it has to anybody.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import Pulse
from ft_horovod.membership.keystore import KeyStore
from ft_horovod.membership.place import Place
from ft_horovod.runfolder import RunFolder
from ft_horovod.training.seat import Connected

_SECRET_BYTES = 32


class HorovodrunSeat:
    """See `Seat`."""

    def __init__(self, environment: Mapping[str, str], newcomers: str | None):
        """Raises ConfigError when a variable that horovodrun sets is missing or is not what it should be."""
        self._environment = dict(environment)  # as it was: Horovod is told other things in it later
        self._rendezvous = (
            _value(environment, "HOROVOD_GLOO_RENDEZVOUS_ADDR"),
            _number(environment, "HOROVOD_GLOO_RENDEZVOUS_PORT"),
        )
        self._interface = _value(environment, "HOROVOD_GLOO_IFACE")
        self._started = _number(environment, "HOROVOD_SIZE")
        self.number: int | None = None
        if newcomers is not None:
            self.me = WorkerId.parse(newcomers)
            return
        self.number = _number(environment, "HOROVOD_RANK")
        self.me = WorkerId(_value(environment, "HOROVOD_HOSTNAME"), _number(environment, "HOROVOD_LOCAL_RANK"))

    def connect(self, layout: LayoutConfig, folder: RunFolder, pulse: Pulse) -> Connected:
        """See `Seat.connect`."""
        from ft_horovod.membership.gloo import GlooMembership

        if layout.stages > 1:
            raise ConfigError("a model that is split over stages needs mpirun", key="layout.stages")
        place = Place(
            me=self.me,
            number=self.number,
            started=self._started,
            address=address_of(self._interface),
            interface=self._interface,
            secret=shared_secret(folder.secret, aside=f"{self.me}.{os.getpid()}"),
        )
        keys = KeyStore(*self._rendezvous, f"ft-horovod-{folder.name}")

        def start(newcomers: Sequence[WorkerId]) -> None:
            """On this host; where horovodrun's driver alone could start them, they do not come."""
            for newcomer in newcomers:
                if newcomer.host == self.me.host:
                    command = [sys.executable, "-m", "ft_horovod.training.worker", str(folder.path)]
                    command += ["--newcomers", str(newcomer)]
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, env=self._environment)

        return Connected(membership=GlooMembership(place, keys, pulse, start), links=None)


def address_of(interface: str) -> str:
    """The IPv4 address of a network interface of this host. Raises ConfigError."""
    for address in psutil.net_if_addrs().get(interface, []):
        if address.family == socket.AF_INET:
            return str(address.address)
    raise ConfigError(f"network interface {interface!r} has no IPv4 address", source="HOROVOD_GLOO_IFACE")


def shared_secret(path: Path, *, aside: str) -> bytes:
    """The secret in a file that whoever comes first writes; `aside`: a name of one's own. Raises ConfigError."""
    try:
        if not path.exists():
            fresh = path.with_name(f".{path.name}.{aside}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_SECRET_BYTES))
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass  # somebody else was first
            finally:
                fresh.unlink()
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the workers' secret cannot be kept: {error.strerror}", source=str(path)) from error


def _value(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ConfigError("not set: start the workers with horovodrun", source=name)
    return environment[name]


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _value(environment, name)
    if not text.isdecimal():
        raise ConfigError(f"{text!r} is not a number", source=name)
    return int(text)
