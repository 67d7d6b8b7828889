"""From files and flags to a checked configuration.

Flags override the file. Paths in a file are relative to the file. This module reads files and starts nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ft_horovod.core.config import RunConfig
from ft_horovod.core.decode import convert, decode_yaml, with_line
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule, PlannedFault, resolve

COMMAND_LINE = "command line"


def load_config(path: Path | None, flags: Mapping[str, object]) -> RunConfig:
    """Read `path` (defaults without one) and apply `flags`, whose keys are dotted paths such as `layout.workers`.

    Flags that are None were not given. Raises ConfigError naming file, key and line, or the flag.
    """
    config = RunConfig() if path is None else _anchored(decode_yaml(read_text(path), RunConfig, source=str(path)), path)
    given = {key: value for key, value in flags.items() if value is not None}
    if not given:
        return config
    values = msgspec.to_builtins(config)
    if {"layout.stages", "layout.backups"} & set(given):
        values["layout"].pop("workers")  # as many as these need
    for key, value in given.items():
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[name] = value
    return convert(values, RunConfig, source=COMMAND_LINE)


def read_text(path: Path) -> str:
    """The text of a file. Raises ConfigError when it cannot be read or is not text."""
    try:
        return path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("is not a text file", source=str(path)) from error


def check_schedule(config: RunConfig) -> tuple[PlannedFault, ...]:
    """The faults of the run's schedule, all drawn; none without one. Raises ConfigError naming file, entry and line."""
    if config.schedule is None:
        return ()
    path = Path(config.schedule)
    text, layout = read_text(path), config.layout
    schedule = decode_yaml(text, FaultSchedule, source=str(path))
    workers = layout.workers + layout.spares
    try:
        return resolve(schedule, workers, stages=layout.stages, steps=config.steps, source=str(path))
    except ConfigError as error:
        raise with_line(error, text) from error


def _anchored(config: RunConfig, path: Path) -> RunConfig:
    """Paths relative to the file made relative to where we are."""

    def anchor(value: str | None) -> str | None:
        return None if value is None else str(path.parent / Path(value).expanduser())

    data = msgspec.structs.replace(config.data, root=anchor(config.data.root))
    return msgspec.structs.replace(config, schedule=anchor(config.schedule), data=data)
