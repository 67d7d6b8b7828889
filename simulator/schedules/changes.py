"""A trace as changes: who went or came, when. What every format is read into, and checked as.

Knows order and consistency; knows no format.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ft_horovod.core.errors import ConfigError

_MOST_S = 1e9


class Change(msgspec.Struct, frozen=True):
    """One node comes (`up`) or goes at `time_s`, told in `line` of the file."""

    time_s: float
    node: str
    up: bool
    line: int


class Changes(msgspec.Struct, frozen=True):
    """A checked trace: the nodes that are there when it begins, and what changes after that, in order."""

    present: tuple[str, ...]
    changes: tuple[Change, ...]

    @property
    def end_s(self) -> float:
        return self.changes[-1].time_s if self.changes else 0.0


def checked(present: Sequence[str], changes: Sequence[Change], source: str) -> Changes:
    """A trace whose rows are in order, and whose nodes go only when they are there and come only when they are not.

    Nodes that come at time 0, before anything else, are present. Raises ConfigError naming file and row.
    """
    if not changes:
        raise ConfigError("is empty: there is no row in it", source=source)
    here, start = dict.fromkeys(present), dict.fromkeys(present)
    last_s = 0.0
    kept: list[Change] = []
    for change in changes:
        _check_time(change, last_s, source)
        last_s = change.time_s
        if change.up and change.node in here:
            raise _refused("comes, and is there already", change, source)
        if not change.up and change.node not in here:
            raise _refused("unknown node: goes, and is not there", change, source)
        if change.up:
            here[change.node] = None
        else:
            del here[change.node]
        if change.up and change.time_s == 0 and not kept:
            start[change.node] = None
        else:
            kept.append(change)
    return Changes(tuple(start), tuple(kept))


def _check_time(change: Change, last_s: float, source: str) -> None:
    if not 0 <= change.time_s <= _MOST_S:
        raise ConfigError(f"time {change.time_s:g} s is not between 0 and {_MOST_S:g}", source=source, line=change.line)
    if change.time_s < last_s:
        raise ConfigError(
            f"time {change.time_s:g} s comes before that of the row above, {last_s:g} s; --sort puts rows in order",
            source=source,
            line=change.line,
        )


def _refused(problem: str, change: Change, source: str) -> ConfigError:
    return ConfigError(f"{change.node} {problem}", source=source, line=change.line)
