"""What a slice of the state in host memory is, and which slices make one state. Pure.

This module knows descriptions of slices, wherever they came from; it knows no files and no memory. A host that holds
only some of a commit's slices sends their descriptions to the others, and all choose alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

PROGRESS_LIMIT_BYTES = 16 << 10


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of which state a slice is: elements [begin, end) of a stage's flat float32 state of `total`."""

    act: int
    step: int
    begin: int
    end: int
    total: int
    identity: str  # hash of what the state depends on besides its step
    progress: bytes  # the writer's, encoded; only compared here
    stage: int = 0
    stages: int = 1
    # Start of the run and epoch in which it was written, newer ones greater. An act that is done again by other
    # members gives a state that differs in its last bits: slices of different origins never make one state.
    origin: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (0 <= self.begin < self.end <= self.total and 0 <= self.stage < self.stages):
            raise ValueError(f"no slice: [{self.begin}, {self.end}) of {self.total}, stage {self.stage}/{self.stages}")
        if len(self.progress) > PROGRESS_LIMIT_BYTES:
            raise ValueError(f"progress: {len(self.progress)} bytes, at most {PROGRESS_LIMIT_BYTES}")

    @property
    def elements(self) -> int:
        return self.end - self.begin


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What stands before a payload."""

    sequence: int  # counts the commits of one file
    written_at_s: float  # Unix time
    checksum: int  # XXH3-64 of the payload
    meta: Meta


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A whole slice and where it lies; means something on its own host only, but may be sent to others."""

    path: str
    host: str
    slot: int  # the worker's
    side: int  # 0 or 1: which of the file's two
    header: Header

    @property
    def meta(self) -> Meta:
        return self.header.meta


def newest_whole(slices: Iterable[Slice], identity: str, stages: Collection[int] | None = None) -> tuple[Slice, ...]:
    """The fewest slices that cover the newest state of all `stages` (None: of all there are); () when none is whole.

    Slices of one state agree in act, step, progress, number of stages, origin and identity; those of another identity
    are left out. They may overlap: members write with the same bits what they both hold.
    """
    states: dict[tuple[int, int, tuple[int, ...], bytes, int], list[Slice]] = {}
    for one in slices:
        meta = one.meta
        if meta.identity == identity:
            key = (meta.act, meta.step, meta.origin, meta.progress, meta.stages)
            states.setdefault(key, []).append(one)
    for key in sorted(states, reverse=True):
        covers = [
            _cover([one for one in states[key] if one.meta.stage == stage])
            for stage in (range(key[-1]) if stages is None else sorted(stages))
        ]
        if all(covers):
            return tuple(one for cover in covers for one in cover)
    return ()


def _cover(slices: list[Slice]) -> tuple[Slice, ...]:
    """The fewest slices of one stage that cover it, in order; () if they leave a gap or disagree about its size."""
    totals = {one.meta.total for one in slices}
    if len(totals) != 1:
        return ()
    total, covered, chosen = totals.pop(), 0, []
    while covered < total:
        reaching = (one for one in slices if one.meta.begin <= covered < one.meta.end)
        best = max(reaching, key=lambda one: (one.meta.end, one.host, one.slot, one.side), default=None)
        if best is None:
            return ()
        chosen.append(best)
        covered = best.meta.end
    return tuple(chosen)
