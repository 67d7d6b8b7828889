"""Slurm's short forms: `gpu[01-03,07],login1` for names, `4(x2),3` for counts.

`scontrol show hostnames` does the first as well, but is missing in many containers. Only text is read here: which
variable it came from is the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

MAX_NODES = 65_536  # Slurm's own limit (MAX_SLURM_NODES); a typing error must not fill the memory

_PART = re.compile(r"\[(?P<ranges>[^\[\]]*)\]|(?P<plain>[^\[\],]+)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_COUNT = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")


def expand(text: str) -> tuple[str, ...]:
    """The names that a node list stands for, in its order. Raises ValueError with what is wrong."""
    names: list[str] = []
    for piece in _pieces(text):
        names += (_checked("".join(parts)) for parts in product(*_alternatives(piece, MAX_NODES - len(names))))
    return tuple(names)


def expand_counts(text: str) -> tuple[int, ...]:
    """`4(x2),3` is 4, 4, 3. Raises ValueError."""
    counts: list[int] = []
    for piece in text.split(","):
        found = _COUNT.fullmatch(piece)
        if not found:
            raise ValueError(f"expected counts as in 4(x2),3, found {piece!r}")
        times = int(found[2] or 1)
        if len(counts) + times > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        counts += [int(found[1])] * times
    return tuple(counts)


def _pieces(text: str) -> Iterator[str]:
    """Split at the commas outside brackets."""
    start = depth = 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth not in (0, 1):
            break
        if character == "," and not depth:
            yield text[start:place]
            start = place + 1
    if depth:
        raise ValueError(f"brackets do not match in {text!r}")
    yield text[start:]


def _alternatives(piece: str, room: int) -> list[list[str]]:
    """For each part of a piece, what it may be: one text, or the numbers of a bracket."""
    found: list[list[str]] = []
    place, names = 0, 1
    while part := _PART.match(piece, place):
        place = part.end()
        found.append([part["plain"]] if part["plain"] else _numbers(part["ranges"], room // names))
        names *= len(found[-1])
        if names > room:
            raise ValueError(f"more than {MAX_NODES} nodes")
    if place != len(piece) or not found:
        raise ValueError(f"expected a node as in gpu[01-03,07], found {piece!r}")
    return found


def _numbers(ranges: str, room: int) -> list[str]:
    numbers: list[str] = []
    for one in ranges.split(","):
        found = _RANGE.fullmatch(one)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise ValueError(f"expected a range as in 01-03, found {one!r}")
        first, last = int(found[1]), int(found[2] or found[1])
        if len(numbers) + last - first + 1 > room:
            raise ValueError(f"more than {MAX_NODES} nodes")
        numbers += (str(number).zfill(len(found[1])) for number in range(first, last + 1))
    return numbers


def _checked(name: str) -> str:
    if name != name.strip() or name.startswith("-"):
        raise ValueError(f"{name!r} is no node name")
    return name
