"""The next batches are loaded while this one is computed.

This module knows one background thread and the order of requests, not what a batch is for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Self

from ft_horovod.core.errors import InvalidTransition
from ft_horovod.training.sources import Batch, Indices, Source

DEPTH = 2  # batches asked for and not yet taken
_BEAT_S = 0.05


class Prefetcher:
    """Loads requested batches in a background thread, in the order of the requests.

    A thread and not a process: a process that uses MPI must not fork. It calls neither MPI nor Horovod.
    """

    def __init__(self, source: Source, depth: int = DEPTH) -> None:
        self._source, self._depth = source, depth
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
        self._pending: deque[Future[Batch]] = deque()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many requested batches have not been taken."""
        return len(self._pending)

    def request(self, indices: Indices, epoch: int) -> None:
        """Have a batch loaded. Raises InvalidTransition after `close` or when `depth` batches have not been taken."""
        if self._closed or len(self._pending) >= self._depth:
            raise InvalidTransition("closed" if self._closed else f"{self._depth} batches are waiting to be taken")
        self._pending.append(self._pool.submit(self._source.batch, indices.copy(), epoch))

    def get(self, beat: Callable[[], None] = lambda: None) -> Batch:
        """The oldest batch that was requested and not yet taken, waiting for it if need be.

        `beat` is called while it waits: slow storage is no hang. Raises what loading it raised, and InvalidTransition
        when none was requested.
        """
        if not self._pending:
            raise InvalidTransition("no batch was requested")
        batch = self._pending.popleft()
        while not wait((batch,), _BEAT_S).done:
            beat()
        return batch.result()

    def discard(self) -> None:
        """Forget what was requested: the shares of the batch have changed. The load at work ends unseen."""
        while self._pending:
            self._pending.popleft().cancel()

    def close(self) -> None:
        """Forget what was requested and end the thread, once the load at work is done."""
        self._closed = True
        self.discard()
        self._pool.shutdown(wait=True, cancel_futures=True)
