"""The sums of one act: started one by one, waited for together, never for good."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ft_horovod.core.errors import MembershipError, Stalled
from ft_horovod.membership.protocol import Handle, Membership

_POLLS_S = (0.0001, 0.001)  # short at first, then longer
_SHORT_POLLS = 100


class Sums:
    """Collects what is being summed. A start that fails is remembered and raised by `wait`, so that a backward pass
    that starts sums can finish its work first."""

    def __init__(self, membership: Membership, beat: Callable[[], None], stall_s: float):
        self._membership, self._beat, self._stall_s = membership, beat, stall_s
        self._handles: list[Handle] = []
        self._failed: MembershipError | None = None

    def start(self, name: str, source: torch.Tensor, target: torch.Tensor) -> None:
        """Start a sum over all members, unless one has failed already."""
        self.begin(lambda: self._membership.sum_into(name, source, target))

    def begin(self, start: Callable[[], Handle]) -> None:
        """Start anything else that is to be waited for, unless something has failed already."""
        if self._failed is None:
            try:
                self._handles.append(start())
            except MembershipError as error:
                self._failed = error

    def wait(self) -> None:
        """Until all that was started is summed. Raises MembershipError; nothing is under way afterwards."""
        handles, failed = self._handles, self._failed
        self.forget()
        if failed is not None:
            raise failed
        give_up = time.monotonic() + self._stall_s
        polls = 0
        while handles:
            handles = [handle for handle in handles if not handle.done()]
            if not handles:
                return
            self._beat()
            polls += 1
            time.sleep(_POLLS_S[polls > _SHORT_POLLS])
            if time.monotonic() > give_up:
                raise Stalled(f"a sum took more than {self._stall_s:.0f} s although nobody died")

    def forget(self) -> None:
        """Drop what was started: the membership ends it."""
        self._handles, self._failed = [], None
