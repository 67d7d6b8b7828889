"""A number and where it comes from. Knows sources; knows no meaning of numbers."""

from __future__ import annotations

from typing import Literal

from ft_horovod.core.config import NonNegative, Section

Source = Literal["measured", "published", "assumed"]


class Given(Section, frozen=True):
    """A number with its source; its unit is in the name of its key. A bare number in a file is an assumed one."""

    value: NonNegative
    source: Source
    note: str = ""


Quantity = Given | NonNegative


def value_of(quantity: Quantity) -> float:
    """The number alone."""
    return quantity.value if isinstance(quantity, Given) else float(quantity)


def source_of(quantity: Quantity) -> tuple[Source, str]:
    """Where it comes from, and what is said about it."""
    return (quantity.source, quantity.note) if isinstance(quantity, Given) else ("assumed", "")


def measured(value: float, note: str) -> Given:
    """A number from live traces."""
    return Given(value=value, source="measured", note=note)
