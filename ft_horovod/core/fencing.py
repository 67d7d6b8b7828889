"""Which side of a network that fell apart may go on.

A worker that is lost from a host that still answers is dead for certain. One whose whole host fell silent may live on,
on the other side of a partition, and take us for dead. Of two such sides only one may train and commit. This module
decides from who answers; it does not know why the others do not.
"""

from __future__ import annotations

from collections.abc import Collection

from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout


def cut_off(before: Layout, living: Collection[WorkerId]) -> bool:
    """Whether those living of `before` must assume that the greater part of it lives elsewhere, and end.

    Of two sides of one size that with the first leader goes on.
    """
    here = [worker for worker in before.workers if worker in living]
    hosts = {worker.host for worker in here}
    silent = [worker for worker in before.workers if worker not in living and worker.host not in hosts]
    if len(silent) == len(here):
        return before.members[0] not in living
    return len(silent) > len(here)
