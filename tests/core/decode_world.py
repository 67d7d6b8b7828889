"""A small config with every kind of key, for the tests of the decoder."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ft_horovod.core.decode import decode_yaml


class Engine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Literal["steam", "diesel"] = "steam"
    power: Annotated[float, msgspec.Meta(gt=0)] = 1.0


class Train(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str = "x"
    cars: Annotated[int, msgspec.Meta(ge=1)] = 1
    fast: bool = False
    engine: Engine = Engine()
    spare: Engine | None = None
    others: tuple[Engine, ...] = ()
    stops: tuple[str, ...] = ()
    length: float | None = None
    grade: Literal["a", "b"] | None = None

    def __post_init__(self) -> None:
        if self.cars > 100:
            raise ValueError("Too many cars")


def read(text: str) -> Train:
    return decode_yaml(text, Train, source="t.yaml")
