"""What `--commit` says: how often each tier keeps the state.

    auto                  every tier as often as pays
    off                   only at the end
    every-step            host memory after every step, disk as often as pays
    disk=60s              so often to disk; tiers that are not named stay auto
    memory=1,disk=5m      after every step to host memory, every 5 minutes to disk
    memory=off,disk=200   no copies in memory, to disk every 200 steps

Live peers hold the state after every step at no cost; nothing is to be chosen there. This module knows what a user can
say; what auto comes to is `commit_interval`'s business.
"""

from __future__ import annotations

import re
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal, TypeVar

import msgspec

from ft_horovod.core.errors import ConfigError

TierName = Literal["memory", "disk"]
_TIERS: tuple[TierName, ...] = ("memory", "disk")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LENGTH = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)\s*(?P<unit>[a-z]*)")
_MOST = 1e9
_EXPECTED = "expected auto, off, every-step, or tiers as in memory=1,disk=5m"


class Steps(msgspec.Struct, frozen=True):
    """Every `count` steps."""

    count: int

    def __str__(self) -> str:
        return str(self.count)


class Seconds(msgspec.Struct, frozen=True):
    """Every so many seconds."""

    seconds: float

    def __str__(self) -> str:
        digits = format(Decimal(repr(self.seconds)), "f")
        return f"{digits.removesuffix('.0')}s"


Number = TypeVar("Number", int, float)
Rhythm = Literal["auto", "off"] | Steps | Seconds


class CommitPolicy(msgspec.Struct, frozen=True):
    """The rhythm of each tier. `str` gives the text that `parse_policy` reads."""

    memory: Rhythm = "auto"
    disk: Rhythm = "auto"

    def __str__(self) -> str:
        if self.memory == self.disk and isinstance(self.memory, str):
            return self.memory
        return f"memory={self.memory},disk={self.disk}"


def parse_policy(text: str) -> CommitPolicy:
    """Read what `--commit` says. Raises ConfigError."""
    words = [word.strip() for word in text.strip().lower().split(",")]
    match words:
        case ["auto"]:
            return CommitPolicy()
        case ["off"]:
            return CommitPolicy("off", "off")
        case ["every-step"]:
            return CommitPolicy(memory=Steps(1))
    found: dict[TierName, Rhythm] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            raise _wrong(_of_no_tier(word))
        tier = _tier(name)
        if tier in found:
            raise _wrong(f"{tier} is there twice")
        found[tier] = _rhythm(tier, value)
    return CommitPolicy(**found)


def _of_no_tier(word: str) -> str:
    if word in ("auto", "off", "every-step"):
        return f"{word} stands alone: {_EXPECTED}"
    if _LENGTH.fullmatch(word):
        return f"{word} of which tier? For example disk={word}"
    near = get_close_matches(word, ("auto", "off", "every-step"), 1)
    return f"{word!r} means nothing here{f', did you mean {near[0]}?' if near else f': {_EXPECTED}'}"


def _tier(name: str) -> TierName:
    for tier in _TIERS:
        if name == tier:
            return tier
    if name in ("peers", "peer", "live"):
        raise _wrong(f"{name}: live peers hold every step at no cost; name memory or disk")
    near = get_close_matches(name, _TIERS, 1)
    raise _wrong(f"there is no tier {name!r}, {f'did you mean {near[0]}?' if near else 'expected memory or disk'}")


def _rhythm(tier: TierName, value: str) -> Rhythm:
    if value in ("auto", "off"):
        return "auto" if value == "auto" else "off"
    if value == "every-step":
        return Steps(1)
    match = _LENGTH.fullmatch(value)
    if match is None:
        raise _wrong(f"{tier}={value}: expected steps (1, 200), a time (500ms, 60s, 5m, 1h), auto or off")
    number, unit = match["number"], match["unit"]
    if unit in ("", "step", "steps"):
        if not number.isdigit():
            raise _wrong(f"{tier}={value}: {number} steps? A time needs its unit, as in {number}s")
        return Steps(_positive(tier, value, int(number)))
    if unit not in _UNITS_S:
        raise _wrong(f"{tier}={value}: no unit {unit!r}, expected {', '.join(_UNITS_S)} or steps")
    return Seconds(_positive(tier, value, float(number) * _UNITS_S[unit]))


def _positive(tier: TierName, value: str, number: Number) -> Number:
    if number <= 0:
        raise _wrong(f"{tier}={value}: never is {tier}=off")
    if number > _MOST:
        raise _wrong(f"{tier}={value}: more than {_MOST:g}")
    return number


def _wrong(problem: str) -> ConfigError:
    return ConfigError(problem, key="--commit")
