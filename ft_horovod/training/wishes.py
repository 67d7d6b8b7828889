"""What a worker wishes to become of the group, told to all through the control lane.

The leader wishes for newcomers when members are missing and no spare is left, and for letting them in when they are
ready. This module knows when to wish, not how processes are started.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ft_horovod.core.config import LayoutConfig
from ft_horovod.core.layout import Layout
from ft_horovod.training.control import Control

_PAUSE_S = 1.0  # between invitations
_ASK_S = 0.1  # between looks at whether newcomers are ready


class Wishes:
    """The wishes of one worker."""

    def __init__(self, config: LayoutConfig, newcomers_ready: Callable[[], bool], inviting: Callable[[], bool]):
        self._config, self._ready, self._inviting = config, newcomers_ready, inviting
        self._leads = False
        self._missing = 0
        self._grow = 0
        self._respawns = 0
        self._next_invitation = self._next_look = 0.0
        self.invites = False  # all have heard that newcomers are to be started at this boundary

    def grow(self) -> None:
        """A newcomer is wanted on top of those that are missing."""
        self._grow += 1

    def enter(self, layout: Layout, goal: int, *, leads: bool) -> None:
        """A new group holds."""
        self.invites = False
        self._leads = leads
        self._missing = goal - len(layout.members) - len(layout.spares)

    def now(self, *, leaving: bool, commit: bool) -> Control:
        """What this worker wishes for."""
        if not self._leads:
            return Control(leave=int(leaving), commit=int(commit))
        now = time.monotonic()
        ready = False
        if now >= self._next_look:
            self._next_look = now + _ASK_S
            ready = self._ready()
        refill = (
            self._config.respawn
            and self._missing > 0
            and not self._inviting()
            and now >= self._next_invitation
            and self._respawns < self._config.max_respawns
        )
        return Control(leave=int(leaving), invite=int(refill), grow=self._grow, ready=int(ready), commit=int(commit))

    def heard(self, total: Control) -> None:
        """A step is finished with these wishes of all."""
        self.invites = bool(total.invite or total.grow)
        if total.invite:
            self._respawns += 1
            self._next_invitation = time.monotonic() + _PAUSE_S
        if self._leads:
            self._grow = max(0, self._grow - total.grow)
