"""Links between the members of stages, over MPI: a communicator for each group and for each pipeline.

Here the main thread alone calls MPI, and never blocks: everything is started and polled. A failure is known from the
first call that returns an error, or from probing the members' communicator; whoever knows revokes all communicators it
is in, so that nobody waits on one of them. Each act ends with an agreement of all members, and whoever leaves one
half-way brings its no to that agreement first: a revoked communicator does not end an agreement, so nobody may stay
away from it. Nothing is freed after a failure: a transfer that was cut short may still hold on to its communicator and
its memory.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from mpi4py import MPI

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.pipelines import Pipeline, pipelines, rounds
from ft_horovod.membership.protocol import Handle


class StageLinks:
    """See `membership.links.Links`; and the part of a `Fabric` that `UlfmMembership` builds and takes down."""

    def __init__(self, me: WorkerId, *, standby: bool):
        self._me, self._standby = me, standby
        self._members = self._group = MPI.Intracomm(MPI.COMM_NULL)
        self._pipelines: dict[int, MPI.Intracomm] = {}
        self._broken_at: float | None = None
        self._in_act = False  # the others count on this worker's word in the agreement that ends the act
        self._abandoned: list[_Request] = []  # cut short: their memory stays, Open MPI may still write to it
        self._open: list[_Request] = []
        self.ways: tuple[Pipeline, ...] = ()
        self.on_error = MPI.ERRORS_RETURN

    # -- Fabric --------------------------------------------------------------------------------------------------

    def build(self, comm: MPI.Intracomm, layout: Layout) -> None:
        """Build the communicators, together with all members. Raises MPI.Exception."""
        comm.Set_errhandler(MPI.ERRORS_RETURN)
        self._members = comm
        _, stage = layout.role(self._me)
        assert stage is not None
        self._group = _split(comm, stage, layout.groups[stage].members.index(self._me))
        self._pipelines = {}
        self.ways = pipelines(layout, standby=self._standby)
        for some in rounds(self.ways):
            mine = next((way for way in some if self._me in way.workers), None)
            built = _split(comm, MPI.UNDEFINED if mine is None else mine.number, stage)
            if mine is not None:
                self._pipelines[mine.number] = built

    def up(self) -> None:
        """All have built their communicators; the first act begins."""
        self._broken_at, self._in_act = None, True

    def down(self) -> None:
        """Nobody may wait for this worker any more. What is under way is given up."""
        if self._members == MPI.COMM_NULL:
            return
        for comm in (self._members, self._group, *self._pipelines.values()):
            comm.Revoke()
        if self._in_act:
            with contextlib.suppress(MPI.Exception):
                self._members.Agree(0)
        self._in_act = False
        self._abandoned += [request for request in self._open if not request.over]
        self._open = []
        self._members = self._group = MPI.Intracomm(MPI.COMM_NULL)
        self._pipelines = {}

    @property
    def broken_at(self) -> float | None:
        """When an MPI call failed first, on the monotonic clock; None while all is well."""
        return self._broken_at

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """Start summing over all members. Raises WorkersLost."""
        return self._start(lambda: self._members.Iallreduce(_raw(source), _raw(target)), source, target)

    # -- Links ---------------------------------------------------------------------------------------------------

    def send(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """See `Links.send`."""
        return self._start(lambda: self._pipelines[way].Isend(_raw(tensor), stage, tag), tensor)

    def receive(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """See `Links.receive`."""
        return self._start(lambda: self._pipelines[way].Irecv(_raw(tensor), stage, tag), tensor)

    def sum_group(self, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Links.sum_group`."""
        if self._group.size == 1:
            target.copy_(source)
            return _Done()
        return self._start(lambda: self._group.Iallreduce(_raw(source), _raw(target)), source, target)

    def follow_leader(self, tensor: torch.Tensor) -> Handle:
        """See `Links.follow_leader`."""
        if self._group.size == 1:
            return _Done()
        return self._start(lambda: self._group.Ibcast(_raw(tensor), root=0), tensor)

    def agree(self) -> Handle:
        """See `Links.agree`."""
        self._in_act = False  # from here on this worker's word is given
        flag = np.ones(1, np.int32)
        return _Agreement(self, self._members.Iagree(flag), flag)

    def check(self) -> None:
        """See `Links.check`."""
        self._in_act = True
        if self._broken_at is not None:
            raise WorkersLost("a peer died")
        try:
            self._members.Iprobe()
        except MPI.Exception as error:
            raise self.lost() from error

    def _start(self, start: Callable[[], MPI.Request], *tensors: torch.Tensor) -> Handle:
        self._in_act = True
        if self._broken_at is not None:
            raise WorkersLost("a peer died")
        try:
            request = _Request(self, start(), tensors)
        except MPI.Exception as error:
            raise self.lost() from error
        self._open = [one for one in self._open if not one.over]
        self._open.append(request)
        return request

    def lost(self) -> WorkersLost:
        """Remember that the membership is broken, and tell the others."""
        if self._broken_at is None:
            self._broken_at = time.monotonic()
            for comm in (self._members, self._group, *self._pipelines.values()):
                comm.Revoke()
        return WorkersLost("a peer died")


class _Request:
    """See `Handle`; keeps its tensors alive."""

    def __init__(self, links: StageLinks, request: MPI.Request, tensors: tuple[torch.Tensor, ...]):
        self._links, self._request, self._tensors = links, request, tensors
        self.over = False

    def done(self) -> bool:
        """See `Handle.done`."""
        if self.over:
            return True
        try:
            self.over = self._request.Test()
        except MPI.Exception as error:
            raise self._links.lost() from error
        return self.over


class _Agreement:
    """See `Handle`; ends the same for everybody."""

    def __init__(self, links: StageLinks, request: MPI.Request, flag: npt.NDArray[np.int32]):
        self._links, self._request, self._flag = links, request, flag

    def done(self) -> bool:
        """See `Handle.done`."""
        try:
            over = self._request.Test()
        except MPI.Exception as error:
            raise self._links.lost() from error
        if over and not self._flag[0]:
            raise self._links.lost()
        return over


class _Done:
    """A transfer that had nothing to do."""

    def done(self) -> bool:
        """See `Handle.done`."""
        return True


def _raw(tensor: torch.Tensor) -> npt.NDArray[np.generic]:
    """Memory of a contiguous tensor on the CPU as MPI takes it."""
    return tensor.detach().numpy()


def _split(comm: MPI.Intracomm, color: int, key: int) -> MPI.Intracomm:
    built = cast(MPI.Intracomm, comm.Split(color, key))
    if built != MPI.COMM_NULL:
        built.Set_errhandler(MPI.ERRORS_RETURN)
    return built
