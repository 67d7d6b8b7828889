"""Newcomers: processes that MPI starts while the run goes on, and that join it at a step boundary.

Inviting is two steps, so that nobody waits while a newcomer imports its libraries: `invite` starts the processes
(MPI_Comm_spawn, some 0.1 s), and later, when they have said that they are ready, `let_in` makes one world of both (some
0.02 s). One worker alone, the host, starts them: when a process dies inside an MPI_Comm_spawn of many, its root waits
for good in PMIx_Connect, where no limit is kept. So only the loss of the host makes an invitation void; the newcomers
then end, and others may be invited.

The bridge between host and newcomers is never revoked. A revoke connects to everybody on it, and connecting to a
process that died before it was ever connected to waits for good. Newcomers are told by files in the run folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mpi4py import MPI

from ft_horovod.core.errors import Dismissed
from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.board import born_ticks

_POLL_S = 0.01
_LET_IN_LIMIT_S = 120.0
_INVITATION_S = 60.0  # newcomers that are not ready by then are given up, and others may be invited
_COME_IN = 7  # tag of the message that calls the newcomers
_JOIN = 8  # tag under which both sides build their world


class Nursery:
    """The inviters' side: processes that were started and not yet let in."""

    def __init__(self, command: Sequence[str], marks: Path):
        """`marks`: a folder that all workers share."""
        self._command, self._marks = tuple(command), marks
        self._bridge: MPI.Comm = MPI.COMM_NULL  # the host's alone
        self._inviters: MPI.Group = MPI.GROUP_NULL  # its first is the host
        self._invited_at = 0.0
        self.invited: tuple[WorkerId, ...] = ()

    def invite(self, world: MPI.Intracomm, newcomers: Sequence[WorkerId]) -> None:
        """Start the newcomers; called by all of `world`, done by its first. An earlier invitation is withdrawn."""
        self._withdraw()
        self._inviters, self.invited, self._invited_at = world.Get_group(), tuple(newcomers), time.monotonic()
        if world.rank == 0:
            info = MPI.Info.Create()
            info.Set("host", ",".join(who.host for who in newcomers))
            names = ",".join(str(who) for who in newcomers)
            program, *arguments = self._command
            try:
                alone = MPI.COMM_SELF.Dup()
                alone.Set_errhandler(MPI.ERRORS_RETURN)
                self._bridge = alone.Spawn(program, [*arguments, "--newcomers", names], len(newcomers), info)
                self._bridge.Set_errhandler(MPI.ERRORS_RETURN)
            except MPI.Exception:
                self._bridge = MPI.COMM_NULL  # `let_in` will find out that there is none

    @property
    def waiting(self) -> bool:
        """Whether it is too early to invite others."""
        return bool(self.invited) and time.monotonic() - self._invited_at < _INVITATION_S

    def ready(self, host: str) -> bool:
        """Whether all invited processes wait to be let in; those on `host`, this one, are looked at."""
        return bool(self.invited) and all(_is_ready(self._marks, who, host) for who in self.invited)

    def let_in(self, world: MPI.Intracomm, agreed: Callable[[MPI.Comm, bool], bool]) -> MPI.Intracomm:
        """Make one world of `world` and the newcomers; `world` unchanged when that cannot be done, for all alike."""
        bridge, newcomers, host = self._bridge, self.invited, self._host(world)
        self._bridge, self.invited = MPI.COMM_NULL, ()
        # They were ready when somebody reported it; since then the invitation may have become void.
        if not agreed(world, host is not None and (host != world.rank or bridge != MPI.COMM_NULL)):
            self._dismiss(newcomers)
            return world
        assert host is not None
        merged = world
        try:
            peers = MPI.COMM_SELF  # means something at the host alone
            if isinstance(bridge, MPI.Intercomm):
                for newcomer in range(bridge.Get_remote_size()):
                    bridge.send(None, newcomer, _COME_IN)
                peers = _merge(bridge, high=False)
            merged = connect(_merge(world.Create_intercomm(host, peers, 1, _JOIN), high=False))
            fine = True
        except MPI.Exception:
            fine = False
        if agreed(world, fine):
            return merged
        self._dismiss(newcomers)
        return world

    def _host(self, world: MPI.Intracomm) -> int | None:
        """The rank in `world` of whoever started the newcomers; None when it is lost, or nobody was invited."""
        if self._inviters == MPI.GROUP_NULL:
            return None
        (rank,) = MPI.Group.Translate_ranks(self._inviters, [0], world.Get_group())
        return None if rank == MPI.UNDEFINED else rank

    def void_if_host_lost(self, world: MPI.Intracomm) -> None:
        """Withdraw the invitation when whoever started the newcomers is lost."""
        if self.invited and self._host(world) is None:
            self._withdraw()

    def _withdraw(self) -> None:
        self._dismiss(self.invited)
        self._bridge, self.invited = MPI.COMM_NULL, ()

    def _dismiss(self, newcomers: Sequence[WorkerId]) -> None:
        """Those that still wait read it and end."""
        for who in newcomers:
            _dismissal(self._marks, who).touch()


def wait_to_be_let_in(me: WorkerId, marks: Path, expected: Callable[[], bool]) -> MPI.Intracomm:
    """The newcomer's side: say that it is ready, wait for the call, merge.

    `expected()` is asked all the time whether those who invited it may still call. Raises Dismissed when they may not,
    have withdrawn the invitation, or do not call within a limit.
    """
    bridge = MPI.Comm.Get_parent()
    bridge.Set_errhandler(MPI.ERRORS_RETURN)
    ready, dismissal = _mark(marks, me), _dismissal(marks, me)
    ready.with_suffix(".new").write_text(f"{os.getpid()} {born_ticks(os.getpid())}")
    ready.with_suffix(".new").replace(ready)
    give_up = time.monotonic() + _LET_IN_LIMIT_S
    try:
        while not bridge.Iprobe(0, _COME_IN):
            if dismissal.exists():
                raise Dismissed("the group changed before it could join")
            if not expected() or time.monotonic() > give_up:
                raise Dismissed("nobody is left who would let it in")
            time.sleep(_POLL_S)
        bridge.recv(source=0, tag=_COME_IN)
        assert isinstance(bridge, MPI.Intercomm)
        MPI.COMM_WORLD.Set_errhandler(MPI.ERRORS_RETURN)
        peers = _merge(bridge, high=True)
        return connect(_merge(MPI.COMM_WORLD.Create_intercomm(0, peers, 0, _JOIN), high=True))
    except MPI.Exception as error:
        raise Dismissed("the group changed while it joined") from error
    finally:
        ready.unlink(missing_ok=True)


def _merge(comm: MPI.Intercomm, *, high: bool) -> MPI.Intracomm:
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    merged = comm.Merge(high)
    merged.Set_errhandler(MPI.ERRORS_RETURN)
    return merged


def connect(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Let everybody on a merged communicator send something to everybody.

    Connecting is lazy otherwise, and a stranger who died meanwhile cannot be connected to.
    """
    comm.Set_errhandler(MPI.ERRORS_RETURN)
    comm.alltoall([None] * comm.size)
    return comm


def _is_ready(marks: Path, who: WorkerId, host: str) -> bool:
    try:
        pid, born = map(int, _mark(marks, who).read_text().split())
    except (OSError, ValueError):
        return False
    return who.host != host or born_ticks(pid) == born


def _mark(marks: Path, who: WorkerId) -> Path:
    return marks / f"{who.host}-{who.slot}-{who.incarnation}.ready"


def _dismissal(marks: Path, who: WorkerId) -> Path:
    return _mark(marks, who).with_suffix(".dismissed")
