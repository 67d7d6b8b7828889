"""Limits for calls that nothing can interrupt: the process ends rather than wait for good."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ft_horovod.core.errors import EXIT_FENCED

_LOOK_S = 0.1


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


@contextmanager
def or_exit_once(true: Callable[[], bool], grace_s: float) -> Iterator[None]:
    """End this process when something becomes true and the body does not end all the same, `grace_s` later.

    For calls that may take long, but that never end after a certain event.
    """
    done = threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_S):
            if true() and not done.wait(grace_s):
                os._exit(EXIT_FENCED)

    threading.Thread(target=look, name="limit", daemon=True).start()
    try:
        yield
    finally:
        done.set()
