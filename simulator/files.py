"""Files in and out: scenarios, fault schedules, results. Knows paths; every error names file, key and line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule
from simulator.experiments.montecarlo import Study
from simulator.experiments.single import Case
from simulator.failures.presets import all_causes
from simulator.failures.scheduled import scheduled_strikes
from simulator.policies.registry import find
from simulator.scenario import Scenario

T = TypeVar("T")


class Simulation(msgspec.Struct, frozen=True, kw_only=True, tag="simulation", tag_field="kind"):
    """What `simulate --json` writes and `report` reads; the same input and seed give the same bytes."""

    version: int = 1
    source: str
    scenario: Scenario
    schedule: FaultSchedule | None
    studies: tuple[Study, ...]


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=str(path)) from error


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigError("is not a text file", source=str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write a file, making its folder. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", source=str(path)) from error


def read_yaml(path: Path, kind: type[T]) -> T:
    """Decode a YAML file. Raises ConfigError naming file, line and key."""
    return decode_yaml(read_text(path), kind, source=str(path))


def load_case(path: Path, *, seed: int | None = None) -> Case:
    """A scenario and its schedule, checked. Raises ConfigError for anything that a run would stumble over."""
    scenario = read_yaml(path, Scenario)
    if seed is not None:
        scenario = msgspec.structs.replace(scenario, seed=seed)
    find(scenario.policy, source=at_key(path, "policy"))
    schedule, source = None, str(path)
    if scenario.failures.schedule is not None:
        place = path.parent / scenario.failures.schedule
        schedule, source = read_yaml(place, FaultSchedule), str(place)
        scheduled_strikes(schedule, scenario.machines, step_s=1.0, source=source)
    elif not all_causes(scenario.failures):
        raise ConfigError("nothing fails: give preset, causes or schedule", source=at_key(path, "failures"))
    return Case(scenario, schedule, source)


def at_key(path: Path, key: str) -> str:
    """`file:line` of a top-level key, or the file alone."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.startswith(f"{key}:"):
            return f"{path}:{number}"
    return str(path)


def write_simulation(path: Path, simulation: Simulation) -> None:
    """Write results as JSON. Raises ConfigError."""
    write_text(
        path, msgspec.json.format(msgspec.json.encode(simulation, order="deterministic"), indent=2).decode() + "\n"
    )


def read_simulation(path: Path) -> Simulation:
    """Read what `write_simulation` wrote. Raises ConfigError."""
    try:
        return msgspec.json.decode(read_bytes(path), type=Simulation)
    except msgspec.DecodeError as error:
        raise ConfigError(f"no result of `simulate --json`: {error}", source=str(path)) from error
