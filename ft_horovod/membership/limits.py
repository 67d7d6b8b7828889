"""Limits for calls that nothing can interrupt: the process ends rather than wait for good."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ft_horovod.core.errors import EXIT_FENCED


@contextmanager
def or_exit(limit_s: float) -> Iterator[None]:
    """End this process when the body takes longer: the others, who wait for it, then go on without it."""
    timer = threading.Timer(limit_s, os._exit, [EXIT_FENCED])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
