"""Membership over MPI with user-level failure mitigation (Open MPI, `mpirun --with-ft ulfm`).

One thread in MPI at a time: while Horovod is up, its background thread alone calls MPI. When a peer dies, the error
handler that Horovod's communicators inherited tells this process and revokes the communicator, which tells the others.
Then Horovod goes down first, and only then does the main thread revoke, shrink and agree. Between a shrink and the next
agreement nobody takes a short cut: whoever fails says so in the agreement, and all act on its outcome together.

It does not know what the workers compute, nor who should lead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast

import msgspec
import numpy as np
import torch
from mpi4py import MPI

from ft_horovod.core.errors import Fenced, WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.board import ROWS, Phase, Pulse, lives
from ft_horovod.membership.limits import or_exit
from ft_horovod.membership.protocol import Facts, Handle, Report
from ft_horovod.membership.spawn import Nursery, wait_to_be_let_in

_POLL_S = 0.002
_JOIN_S = 20.0
_LET_IN_S = 8.0
_LOOK_S = 0.25
_CHUNK_BYTES = 1 << 30  # MPI counts are ints

_said = msgspec.msgpack.Decoder(tuple[int, Report])


class Fabric(Protocol):
    """What the members compute over: Horovod's ring, or the links of stages."""

    on_error: MPI.Errhandler

    @property
    def broken_at(self) -> float | None:
        """See `Membership.broken_at`."""
        ...

    def build(self, comm: MPI.Intracomm, layout: Layout) -> None:
        """Build on the members' communicator, all members together. Raises MPI.Exception."""
        ...

    def up(self) -> None:
        """All have built; from here on the fabric is used."""
        ...

    def down(self) -> None:
        """End everything under way, wherever it is; never waits for good."""
        ...

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Membership.sum_into`."""
        ...


class UlfmMembership:
    """One worker under mpirun. Create it first thing in the process: it initialises MPI."""

    def __init__(
        self,
        me: WorkerId,
        pulse: Pulse,
        fabric: Fabric,
        *,
        command: Sequence[str],
        marks: Path,
        newcomer: bool = False,
    ):
        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            raise Fenced("MPI was built without support for several threads: ft-horovod doctor tells more")
        self.me = me
        self._pulse, self._marks = pulse, marks
        self._epoch = -1
        self._next_look = 0.0
        self._fabric = fabric
        self._nursery = Nursery(command, marks)
        self._world = MPI.Intracomm(MPI.COMM_NULL) if newcomer else MPI.COMM_WORLD.Dup()
        if not newcomer:
            self._world.Set_errhandler(MPI.ERRORS_RETURN)

    # -- agreeing ------------------------------------------------------------------------------------------------

    def meet(self, report: Report) -> Facts:
        """See `Membership.meet`. A newcomer waits for those who invited it to let it in."""
        if self._world == MPI.COMM_NULL:
            self._pulse.enter(Phase.SPARE)
            self._world = wait_to_be_let_in(self.me, self._marks, self._inviters_live)
            self._pulse.enter(Phase.REGROUP)
            with or_exit(_JOIN_S):  # should the inviters have gone on without it, nobody answers
                return self._exchange(report) or self.regroup(report)
        # At the start of a run the phase stays SETUP: others may still load, and how long is the launcher's business.
        return self._exchange(report) or self.regroup(report)

    def _inviters_live(self) -> bool:
        """Beat, and look now and then whether anybody on this host is at work in the run."""
        self._pulse.beat()
        if time.monotonic() < self._next_look:
            return True
        self._next_look = time.monotonic() + _LOOK_S
        at_work = (Phase.COMPUTE, Phase.WAIT, Phase.REGROUP, Phase.COMMIT)
        rows = (self._pulse.board.read(slot) for slot in range(ROWS) if slot != self._pulse.slot)
        return any(row.pid and row.phase in at_work and lives(row) for row in rows)

    def regroup(self, report: Report) -> Facts:
        """See `Membership.regroup`."""
        self._pulse.enter(Phase.REGROUP)
        self._fabric.down()
        while True:
            started = time.monotonic()
            self._world.Revoke()
            self._world = cast(MPI.Intracomm, self._world.Shrink())
            self._world.Set_errhandler(MPI.ERRORS_RETURN)
            self._nursery.void_if_host_lost(self._world)
            shrink_s = time.monotonic() - started
            facts = self._exchange(report, shrink_s)
            if facts is not None and any(said.newcomers_ready for said in facts.reports):
                with or_exit(_LET_IN_S):
                    self._world = self._nursery.let_in(self._world, self._agreed)
                self._world.Set_errhandler(MPI.ERRORS_RETURN)
                facts = self._exchange(report, shrink_s)
            if facts is not None:
                return facts

    def _exchange(self, report: Report, shrink_s: float = 0.0) -> Facts | None:
        """Everybody tells everybody; None when somebody died meanwhile, and then None for all."""
        started = time.monotonic()
        lengths, texts = np.zeros(self._world.size, np.int64), np.empty(0, np.uint8)
        mine = np.frombuffer(msgspec.msgpack.encode((self._epoch, report)), np.uint8)
        try:
            self._world.Allgather(np.array([mine.size], np.int64), lengths)
            texts = np.zeros(int(lengths.sum()), np.uint8)
            self._world.Allgatherv(mine, [texts, lengths])
            fine = True
        except MPI.Exception:
            self._world.Revoke()
            fine = False
        # Nothing is decoded before: when a rank dies, Allgatherv can report success without having received anything.
        if not self._agreed(self._world, fine):
            return None
        answers = [_said.decode(part.tobytes()) for part in np.split(texts, np.cumsum(lengths)[:-1])]
        self._epoch = 1 + max(epoch for epoch, _ in answers)
        return Facts(self._epoch, tuple(said for _, said in answers), shrink_s, time.monotonic() - started)

    @staticmethod
    def _agreed(comm: MPI.Comm, fine: bool) -> bool:
        """True everywhere when `fine` was true everywhere and nobody died; else False everywhere."""
        try:
            return comm.Agree(int(fine)) == 1
        except MPI.Exception:
            return False

    # -- forming -------------------------------------------------------------------------------------------------

    def form(
        self, layout: Layout, transfers: Sequence[Transfer], state_of: Callable[[int], torch.Tensor]
    ) -> tuple[float, float]:
        """See `Membership.form`."""
        self._pulse.enter(Phase.REGROUP)
        started = time.monotonic()
        stays, computes = self.me in layout.workers, self.me in layout.members
        world = self._world
        try:
            for transfer in transfers:
                self._transfer(transfer, state_of)
            restored = time.monotonic()
            if len(layout.workers) < self._world.size:
                world = cast(MPI.Intracomm, self._world.Split(0 if stays else MPI.UNDEFINED, self._world.rank))
            if stays:
                world.Set_errhandler(MPI.ERRORS_RETURN)
                place = layout.members.index(self.me) if computes else world.rank
                members = world.Split(0 if computes else MPI.UNDEFINED, place)
                if computes:
                    self._fabric.build(cast(MPI.Intracomm, members), layout)
            fine = True
        except MPI.Exception:
            self._world.Revoke()
            fine, restored = False, time.monotonic()
        if not self._agreed(self._world, fine):
            raise WorkersLost("somebody was lost while the group was formed")
        self._world = world
        if computes:
            self._fabric.up()
        return restored - started, time.monotonic() - restored

    def _transfer(self, transfer: Transfer, state_of: Callable[[int], torch.Tensor]) -> None:
        """Send a stage's state from its source to those who lack it, on a communicator of just these."""
        party = (transfer.source, *transfer.targets)
        takes_part = self.me in party
        comm = self._world.Split(
            0 if takes_part else MPI.UNDEFINED, party.index(self.me) if takes_part else self._world.rank
        )
        if comm == MPI.COMM_NULL:
            return
        comm.Set_errhandler(self._fabric.on_error)
        state = state_of(transfer.stage)
        host = state.cpu() if state.is_cuda else state
        raw = host.view(torch.uint8).numpy()
        for start in range(0, raw.size, _CHUNK_BYTES):
            chunk = raw[start : start + _CHUNK_BYTES]
            # Not Bcast: without the collectives that know of shared memory it is ten times slower.
            if comm.rank == 0:
                MPI.Request.Waitall([comm.Isend(chunk, target) for target in range(1, comm.size)])
            else:
                comm.Recv(chunk, 0)
        if state.is_cuda and self.me in transfer.targets:
            state.copy_(host)
        comm.Free()

    # -- running -------------------------------------------------------------------------------------------------

    @property
    def broken_at(self) -> float | None:
        """See `Membership.broken_at`."""
        return self._fabric.broken_at

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Membership.sum_into`."""
        return self._fabric.sum_into(name, source, target)

    def stand_by(self, beat: Callable[[], None]) -> None:
        """See `Membership.stand_by`. Polls rather than blocks: a blocking call could not beat."""
        while True:
            try:
                self._world.Iprobe()
            except MPI.Exception as error:
                raise WorkersLost("the group changes") from error
            beat()
            time.sleep(_POLL_S)

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """See `Membership.invite`. Called between `regroup` and `form`, when Horovod is down."""
        self._nursery.invite(self._world, newcomers)

    @property
    def inviting(self) -> bool:
        """See `Membership.inviting`."""
        return self._nursery.waiting

    def newcomers_ready(self) -> bool:
        """See `Membership.newcomers_ready`."""
        return self._nursery.ready(self.me.host)

    def close(self) -> None:
        """See `Membership.close`. Not MPI_Finalize: after failures it can wait for the dead."""
        self._pulse.enter(Phase.GONE)
        self._fabric.down()
