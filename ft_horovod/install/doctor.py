"""`ft-horovod doctor`: can this machine train, and if not, what is to be done.

This module knows which checks there are and how they are shown. Each check lives with its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rich.table import Table
from rich.text import Text

from ft_horovod.install import check_machine, check_software
from ft_horovod.install.check import Check, Status

STYLES: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}
AT_A_TIME = 4  # most of the time is spent in waiting for imports


def run_checks(path: str | None = None) -> list[Check]:
    """All checks, in the order of the report; a few seconds. `path` is where programs are looked for."""
    path = path or check_software.environment_path()
    checks: list[Callable[[], Check]] = [
        check_software.check_python,
        partial(check_software.check_mpirun, path),
        check_software.check_mpi4py,
        partial(check_software.check_loss, path),
        check_software.check_torch,
        check_software.check_horovod,
        check_machine.check_gpu,
        check_machine.check_cores,
        check_machine.check_shared_memory,
        check_machine.check_host,
        check_machine.check_ports,
        check_machine.check_open_files,
        partial(check_machine.check_ssh, path),
    ]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return [running.result() for running in [pool.submit(check) for check in checks]]


def failed(checks: Sequence[Check]) -> bool:
    """Whether something is missing that training cannot do without."""
    return any(check.status == "fail" for check in checks)


def render(checks: Sequence[Check]) -> Table:
    """The report: a row for each check, its advice below what was found."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "check", "found"):
        table.add_column(heading)
    for check in checks:
        found = Text(check.found)
        if check.advice:
            found.append(f"\n{check.advice}", style="bold")
        table.add_row(Text(check.status, style=STYLES[check.status]), check.name, found)
    return table
