"""The flags of `ft-horovod hosts` as typed values, and back to words for the script.

This module knows flags, not how they are parsed nor what they do.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ft_horovod.core.errors import ConfigError
from launch.discovery.answer import Limits
from launch.discovery.ledger import Policy
from launch.discovery.reading import Source


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The flags."""

    static: str | None
    hostfile: str | None
    command: str | None
    slurm: bool
    pbs: bool
    lsf: bool
    slots: int | None
    state: str | None
    exclude: tuple[str, ...]
    readmit: tuple[str, ...]
    report_failure: tuple[str, ...]
    limit: float
    refresh: float
    max_age: float
    failure_limit: int
    window: float
    cooldown: float
    cooldown_cap: float
    script: str | None
    as_json: bool

    @property
    def script_path(self) -> Path | None:
        return None if self.script is None else _absolute(self.script)

    @property
    def state_folder(self) -> Path | None:
        """As given; beside the script if one is written; else nothing is remembered."""
        if self.state is not None:
            return _absolute(self.state)
        path = self.script_path
        return None if path is None else path.with_name(f"{path.name}.state")

    @property
    def acts(self) -> bool:
        return bool(self.exclude or self.readmit or self.report_failure)

    @property
    def policy(self) -> Policy:
        return Policy(
            failure_limit=self.failure_limit,
            window_s=self.window,
            cooldown_s=self.cooldown,
            cooldown_cap_s=self.cooldown_cap,
        )

    @property
    def limits(self) -> Limits:
        return Limits(ask_s=self.limit, refresh_s=self.refresh, max_age_s=self.max_age)

    def source(self) -> Source | None:
        """The source that the flags name, None if they leave it to the environment. Raises ConfigError."""
        given = [
            *(Source("static", path, self.slots) for path in _given(self.static)),
            *(Source("hostfile", path, self.slots) for path in _given(self.hostfile)),
            *(Source("command", text, self.slots) for text in _given(self.command)),
            *([Source("slurm", slots=self.slots)] if self.slurm else []),
            *([Source("pbs", slots=self.slots)] if self.pbs else []),
            *([Source("lsf", slots=self.slots)] if self.lsf else []),
        ]
        if len(given) > 1:
            raise ConfigError(f"one source of hosts, not {len(given)}: {' and '.join(map(str, given))}")
        return given[0] if given else None

    def words(self, source: Source | None) -> list[str]:
        """The command line that asks `source` with these options wherever it is run; files by absolute paths.

        Acts are not in it: they were done, and are not to be done at each call.
        """
        words: list[str] = []
        if source is not None:
            words.append(f"--{source.kind}")
            if source.what:
                words.append(source.what if source.kind == "command" else str(_absolute(source.what)))
        if self.slots is not None:
            words += ["--slots", str(self.slots)]
        if self.state_folder is not None:
            words += ["--state", str(self.state_folder)]
        given: dict[str, float] = {
            "--limit": self.limit,
            "--refresh": self.refresh,
            "--max-age": self.max_age,
            "--failure-limit": self.failure_limit,
            "--window": self.window,
            "--cooldown": self.cooldown,
            "--cooldown-cap": self.cooldown_cap,
        }
        return words + [word for flag, value in given.items() for word in (flag, str(value))]


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()
