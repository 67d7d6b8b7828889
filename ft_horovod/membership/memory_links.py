"""Links between threads: what `stage_links` does over MPI, over a `Hub`, for tests and for thinking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch

from ft_horovod.core.errors import WorkersLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout
from ft_horovod.core.pipelines import Pipeline, pipelines
from ft_horovod.membership.memory import Hub, MemoryMembership
from ft_horovod.membership.protocol import Handle


class MemoryLinks:
    """See `membership.links.Links`."""

    def __init__(self, hub: Hub, membership: MemoryMembership, *, standby: bool):
        self._hub, self._membership, self._standby = hub, membership, standby
        self._sums = 0
        self._epoch = -1

    @property
    def _layout(self) -> Layout:
        assert self._hub.layout is not None
        if self._epoch != self._hub.epoch:
            self._epoch, self._sums = self._hub.epoch, 0
        return self._hub.layout

    @property
    def ways(self) -> tuple[Pipeline, ...]:
        """See `Links.ways`."""
        return pipelines(self._layout, standby=self._standby)

    @property
    def _stage(self) -> int:
        stage = self._layout.role(self._membership.me)[1]
        assert stage is not None
        return stage

    def send(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """See `Links.send`."""
        self.check()
        with self._hub.changed:
            self._hub.wires.setdefault((way, self._stage, stage, tag), deque()).append(tensor.clone())
            self._hub.changed.notify_all()
        return _Ready(self, lambda: True)

    def receive(self, way: int, stage: int, tag: int, tensor: torch.Tensor) -> Handle:
        """See `Links.receive`."""
        wire = (way, stage, self._stage, tag)

        def come() -> bool:
            with self._hub.changed:
                waiting = self._hub.wires.get(wire)
                if not waiting:
                    return False
                tensor.copy_(waiting.popleft())
                return True

        return _Ready(self, come)

    def sum_group(self, source: torch.Tensor, target: torch.Tensor) -> Handle:
        """See `Links.sum_group`."""
        members = self._layout.groups[self._stage].members
        return self._gather("group", members, source, target, lambda parts: torch.stack(parts).sum(0))

    def follow_leader(self, tensor: torch.Tensor) -> Handle:
        """See `Links.follow_leader`."""
        members = self._layout.groups[self._stage].members
        return self._gather("follow", members, tensor.clone(), tensor, lambda parts: parts[0])

    def agree(self) -> Handle:
        """See `Links.agree`."""
        flag = torch.ones(1)
        return self._gather("agree", self._layout.members, flag, flag.clone(), lambda parts: parts[0])

    def check(self) -> None:
        """See `Links.check`."""
        if self._membership.broken_at is not None:
            raise WorkersLost("a peer died")

    def _gather(
        self,
        kind: str,
        members: tuple[WorkerId, ...],
        source: torch.Tensor,
        target: torch.Tensor,
        conclude: Callable[[list[torch.Tensor]], torch.Tensor],
    ) -> Handle:
        """Everybody brings a part, in the same order of calls; everybody takes what comes of all."""
        self.check()
        self._sums += 1
        hub, key = self._hub, f"{kind} {members[0]} {self._epoch} {self._sums}"
        with hub.changed:
            hub.brought.setdefault(key, {})[self._membership.me] = source
            hub.changed.notify_all()

        def come() -> bool:
            with hub.changed:
                parts = hub.brought[key]
                if len(parts) < len(members):
                    return False
                target.copy_(conclude([parts[member] for member in members]))
                return True

        return _Ready(self, come)


class _Ready:
    """See `Handle`."""

    def __init__(self, links: MemoryLinks, come: Callable[[], bool]):
        self._links, self._come = links, come
        self._over = False

    def done(self) -> bool:
        """See `Handle.done`."""
        self._over = self._over or self._come()
        if not self._over:
            self._links.check()
        return self._over
