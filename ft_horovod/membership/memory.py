"""Membership among threads of one process: the protocol with every rule and no MPI, for tests and for thinking.

A worker is a thread. `Hub.kill` takes one away: it is gone for the others at once, and its own next call into the
membership raises `Killed`. All waiting is on one condition, with a limit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch

from ft_horovod.core.errors import Dismissed, Stalled, WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.recovery import Transfer
from ft_horovod.membership.protocol import Facts, Handle, Report

_LIMIT_S = 30.0


class Killed(BaseException):
    """Ends the thread of a killed worker; not an Exception, so that nobody handles it by accident."""


class Hub:
    """What the threads share. Every field is guarded by `changed`."""

    def __init__(self, workers: Iterable[WorkerId], start: Callable[[WorkerId], None] | None = None):
        self.changed = threading.Condition()
        self.start = start
        self.world: list[WorkerId] = list(workers)
        self.dead: set[WorkerId] = set()
        self.closed: set[WorkerId] = set()
        self.waiting: list[WorkerId] = []  # newcomers that ask to be let in
        self.invited: tuple[WorkerId, ...] = ()
        self.host: WorkerId | None = None  # who invited them
        self.epoch = -1
        self.broken = False  # somebody has called for a regroup
        self.members: tuple[WorkerId, ...] = ()
        self.layout: Layout | None = None
        self.arrived: dict[str, dict[WorkerId, object]] = {}
        self.outcome: dict[str, object] = {}
        self.sums: dict[str, dict[WorkerId, tuple[torch.Tensor, torch.Tensor]]] = {}
        self.wires: dict[tuple[int, int, int, int], deque[torch.Tensor]] = {}  # sent by links, not yet received
        self.brought: dict[str, dict[WorkerId, torch.Tensor]] = {}  # parts of sums of links
        self.round = 0

    def kill(self, worker: WorkerId) -> None:
        """Take a worker away, now."""
        with self.changed:
            self.dead.add(worker)
            self.changed.notify_all()

    @property
    def at_work(self) -> bool:
        """Whether anybody is left who could let newcomers in."""
        return any(worker not in self.closed for worker in self.living)

    @property
    def living(self) -> list[WorkerId]:
        return [worker for worker in self.world if worker not in self.dead]


class MemoryMembership:
    """One thread's end of a `Hub`."""

    def __init__(self, hub: Hub, me: WorkerId):
        self.me, self._hub = me, hub

    def meet(self, report: Report) -> Facts:
        """See `Membership.meet`."""
        hub = self._hub
        with hub.changed:
            if self.me not in hub.world:
                hub.waiting.append(self.me)
                hub.changed.notify_all()
                self._until(lambda: self.me in hub.world or self.me not in hub.invited or not hub.at_work)
                if self.me not in hub.world:
                    raise Dismissed("the group changed before it could join")
        return self._agree_on_facts(report)

    def regroup(self, report: Report) -> Facts:
        """See `Membership.regroup`."""
        with self._hub.changed:
            self._alive()
            self._hub.broken = True
            self._hub.changed.notify_all()
        return self._agree_on_facts(report)

    def _agree_on_facts(self, report: Report) -> Facts:
        hub = self._hub

        def conclude(said: dict[WorkerId, object]) -> Facts:
            if hub.host in hub.dead:
                hub.waiting, hub.invited = [], ()  # nobody is there who could let them in
            if hub.waiting and any(isinstance(r, Report) and r.newcomers_ready for r in said.values()):
                hub.world = [*hub.living, *hub.waiting]
                hub.waiting, hub.invited = [], ()
                raise _OnceMore
            hub.world = hub.living
            hub.epoch += 1
            hub.broken = False
            hub.sums.clear()
            hub.wires.clear()
            hub.brought.clear()
            return Facts(hub.epoch, tuple(r for w in hub.world if isinstance(r := said[w], Report)))

        facts = self._together("facts", report, conclude)
        assert isinstance(facts, Facts)
        return facts

    def form(
        self, layout: Layout, transfers: Sequence[Transfer], state_of: Callable[[int], torch.Tensor]
    ) -> tuple[float, float]:
        """See `Membership.form`."""
        hub = self._hub
        met = list(hub.world)

        def conclude(states: dict[WorkerId, object]) -> bool:
            if hub.living != met or hub.broken:
                return False
            for transfer in transfers:
                source = states[transfer.source]
                for target in transfer.targets:
                    tensor = states[target]
                    assert callable(tensor)
                    assert callable(source)
                    tensor(transfer.stage).copy_(source(transfer.stage))
            hub.members, hub.layout = layout.members, layout
            hub.world = [worker for worker in met if worker in layout.workers]
            return True

        if not self._together("form", state_of, conclude):
            raise WorkersLost("somebody was lost while the group was formed")
        return 0.0, 0.0

    def sum_into(self, name: str, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Membership.sum_into`."""
        hub = self._hub
        with hub.changed:
            self._alive()
            if self.broken_at is not None:
                raise WorkersLost("a peer died")
            parts = hub.sums.setdefault(name, {})
            assert self.me not in parts, f"{name} is summed twice at once"
            parts[self.me] = (source, target)
            if len(parts) == len(hub.members):
                total = torch.stack([parts[member][0] for member in hub.members]).sum(0)
                for _, into in parts.values():
                    into.copy_(total)
                del hub.sums[name]
            hub.changed.notify_all()
        return _Sum(self, name)

    def pending(self, name: str) -> bool:
        """Whether this worker's part of a sum still waits for others."""
        self._alive()
        return self.me in self._hub.sums.get(name, {})

    @property
    def broken_at(self) -> float | None:
        """See `Membership.broken_at`."""
        hub = self._hub
        self._alive()
        return 0.0 if hub.broken or any(member in hub.dead for member in hub.members) else None

    def stand_by(self, beat: Callable[[], None]) -> None:
        """See `Membership.stand_by`."""
        hub = self._hub
        with hub.changed:
            self._until(lambda: hub.broken or any(w in hub.dead for w in hub.world))
        raise WorkersLost("the group changes")

    @property
    def inviting(self) -> bool:
        """See `Membership.inviting`."""
        return bool(self._hub.invited)

    def invite(self, newcomers: Sequence[WorkerId]) -> None:
        """See `Membership.invite`."""
        hub = self._hub
        with hub.changed:
            self._alive()
            if hub.invited == tuple(newcomers) or hub.start is None:
                return
            hub.invited, hub.host = tuple(newcomers), hub.world[0]
            for newcomer in newcomers:
                hub.start(newcomer)

    def newcomers_ready(self) -> bool:
        """See `Membership.newcomers_ready`."""
        with self._hub.changed:
            return bool(self._hub.invited) and set(self._hub.waiting) == set(self._hub.invited)

    def close(self) -> None:
        """See `Membership.close`."""
        with self._hub.changed:
            self._hub.closed.add(self.me)
            self._hub.changed.notify_all()

    def _alive(self) -> None:
        if self.me in self._hub.dead:
            raise Killed(str(self.me))

    def _until(self, true: Callable[[], bool]) -> None:
        """Wait, holding `changed`; every wait has an end."""
        if not self._hub.changed.wait_for(lambda: true() or self.me in self._hub.dead, _LIMIT_S):
            raise Stalled(f"{self.me} waited more than {_LIMIT_S:.0f} s")
        self._alive()

    def _complete(self, key: str) -> bool:
        return key in self._hub.outcome or set(self._hub.living) <= set(self._hub.arrived[key])

    def _together(self, what: str, mine: object, conclude: Callable[[dict[WorkerId, object]], object]) -> object:
        """All who live bring something; one of them concludes; all return the conclusion."""
        hub = self._hub
        with hub.changed:
            while True:
                self._alive()
                key = f"{what} {hub.round}"
                hub.arrived.setdefault(key, {})[self.me] = mine
                hub.changed.notify_all()
                self._until(partial(self._complete, key))
                if key not in hub.outcome:
                    hub.round += 1
                    try:
                        hub.outcome[key] = conclude(hub.arrived[key])
                    except _OnceMore as again:
                        hub.outcome[key] = again
                    hub.changed.notify_all()
                if not isinstance(hub.outcome[key], _OnceMore):
                    return hub.outcome[key]


class _OnceMore(Exception):
    """The circle grew while it agreed."""


class _Sum:
    """See `Handle`."""

    def __init__(self, membership: MemoryMembership, name: str):
        self._membership, self._name = membership, name

    def done(self) -> bool:
        """See `Handle.done`."""
        with self._membership._hub.changed:
            if not self._membership.pending(self._name):
                return True
            if self._membership.broken_at is not None:
                raise WorkersLost("a peer died during the sum")
            return False
