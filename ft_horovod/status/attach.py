"""`ft-horovod status RUN`: follow a run while it goes, sum it up when it is over."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ft_horovod.core.errors import EXIT_OK, ConfigError
from ft_horovod.status.final_view import final_view
from ft_horovod.status.follow import Tail, read_trace
from ft_horovod.status.live import show
from ft_horovod.status.summary import summarize


def attach(run_dir: Path, console: Console) -> int:
    """Show the run in `run_dir` until it is over, then what came of it; returns the exit code.

    Raises ConfigError when there is no run in the folder.
    """
    if not (run_dir / "trace").is_dir() and not (run_dir / "trace.jsonl").is_file():
        raise ConfigError("no run: there is no trace in this folder", source=str(run_dir))
    state = show(run_dir, Tail(run_dir), console, stop=lambda: False)
    console.print(final_view(state, summarize(read_trace(run_dir)), run_dir))
    return EXIT_OK
