"""What a check of the doctor returns, and how it asks other programs: never longer than a limit.

This module knows nothing of what is checked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the doctor's report. `advice` says what to do; a check that is ok needs none."""

    name: str
    status: Status
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if (self.status == "ok") == bool(self.advice):
            raise ValueError(f"{self.name}: advice is for what is not ok, and there always")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a program said. `code` is None when it could not be started or ran past its limit; `said` then tells."""

    code: int | None
    said: str
    complained: str = ""

    @property
    def last_complaint(self) -> str:
        """The last line of stderr, or of stdout if that is empty: where a traceback names its reason."""
        lines = (self.complained.strip() or self.said.strip()).splitlines()
        return lines[-1].strip() if lines else f"exit code {self.code}"


def ask(command: Sequence[str], *, limit_s: float, env: Mapping[str, str] | None = None) -> Answer:
    """Run a program, with its children, for at most `limit_s` seconds."""
    try:
        program = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    except OSError as error:
        return Answer(code=None, said=f"{command[0]}: {error.strerror}")
    try:
        said, complained = program.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        return Answer(code=None, said=f"no answer within {limit_s:.0f} s")
    return Answer(code=program.returncode, said=said, complained=complained)
