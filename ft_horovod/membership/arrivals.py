"""Newcomers of a group that agrees in rounds: invited, ready, let in, or sent away.

The first of the world starts them; they connect to everybody and knock. Only the loss of whoever started them makes an
invitation void. This module keeps the books of one worker; it sends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ft_horovod.core.identity import WorkerId
from ft_horovod.membership.rounds import Member, Outcome

_INVITATION_S = 60.0  # newcomers that are not ready by then are given up, and others may be invited


class Arrivals:
    """Who was invited, and who of them waits at the door."""

    def __init__(self, start: Callable[[Sequence[WorkerId]], None]):
        self._start = start
        self._invited: tuple[WorkerId, ...] = ()
        self._invited_at = 0.0
        self._void = False  # whoever started them is lost
        self._host: WorkerId | None = None
        self._at_the_door: dict[WorkerId, Member] = {}
        self._withdrawn: set[WorkerId] = set()

    def invite(self, newcomers: Sequence[WorkerId], host: WorkerId, *, starts: bool) -> list[WorkerId]:
        """A new invitation; returns whom to send away."""
        sent_away = self._withdraw()
        self._invited, self._host, self._invited_at = tuple(newcomers), host, time.monotonic()
        self._void = False
        if starts:
            self._start(newcomers)
        return sent_away

    def knocked(self, member: Member) -> list[WorkerId]:
        """Somebody is ready; returns whom to send away."""
        if member.worker in self._withdrawn:
            return [member.worker]
        self._at_the_door[member.worker] = member
        return []

    def lose(self, worker: WorkerId) -> None:
        """A connection ended."""
        self._at_the_door.pop(worker, None)
        self._void = self._void or worker == self._host

    def after(self, outcome: Outcome) -> list[WorkerId]:
        """A round is over; returns whom to send away."""
        if outcome.joining:
            self._withdrawn.update(set(self._invited) - {member.worker for member in outcome.joining})
            self._invited = ()
        for worker in outcome.world:
            self._at_the_door.pop(worker, None)
        if self._invited and self._host not in outcome.world:
            return self._withdraw()
        return []

    @property
    def candidates(self) -> tuple[Member, ...]:
        """Who can be let in now, in the order of the invitation."""
        if self._void:
            return ()
        return tuple(self._at_the_door[worker] for worker in self._invited if worker in self._at_the_door)

    @property
    def ready(self) -> bool:
        """Whether all who were invited can be let in."""
        return bool(self._invited) and len(self.candidates) == len(self._invited)

    @property
    def waiting(self) -> bool:
        """Whether it is too early to invite others."""
        return bool(self._invited) and time.monotonic() - self._invited_at < _INVITATION_S

    def _withdraw(self) -> list[WorkerId]:
        self._withdrawn.update(self._invited)
        self._invited = ()
        return [worker for worker in self._at_the_door if worker in self._withdrawn]
