"""The view of a run as it goes: reads new events, draws, and ends when the run does.

The one module here with a clock. On a terminal it fills the screen and gives it back, whatever happens; elsewhere it
prints a line for each noteworthy event.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ft_horovod.core.trace import AnyEvent
from ft_horovod.status.follow import Source
from ft_horovod.status.launcher_pid import read_launcher_pid
from ft_horovod.status.plain import PlainPrinter
from ft_horovod.status.run_state import RunState
from ft_horovod.status.views import live_view

FRAMES_PER_S = 8
_LAUNCHER_CHECK_S = 1.0

Draw = Callable[[RunState, list[AnyEvent]], None]


def show(run_dir: Path, source: Source, console: Console, stop: Callable[[], bool]) -> RunState:
    """Follow a run until `stop` says so or its launcher is gone; give the state at that time.

    While the launcher lives its last word alone does not end the view: in a folder where a run was resumed it may be
    that of an earlier launch. A launcher that is gone without a last word is told of on the console.
    KeyboardInterrupt and errors pass through once the terminal is as it was before.
    """
    state = RunState()
    launcher = _Launcher(run_dir)
    with _display(console) as draw:
        while True:
            # Asked before reading, so that what is written until then is still read.
            stopped, gone = stop(), launcher.is_gone(state)
            events = source.poll(last=stopped or gone)
            for event in events:
                state.apply(event)
            draw(state, events)
            if stopped or gone:
                break
            time.sleep(1 / FRAMES_PER_S)
    if gone and not stopped and state.outcome is None:
        console.print(Text(launcher.epitaph(), style="bold red"))
    return state


class _Launcher:
    """Looks now and then whether the launcher is still there."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._next_s = time.monotonic()
        self._gone = False

    def is_gone(self, state: RunState) -> bool:
        """Whether nothing more will come."""
        if not self._gone and time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LAUNCHER_CHECK_S
            pid = read_launcher_pid(self._run_dir)
            alive = False if pid is None else pid.is_alive()
            self._gone = not alive if alive is not None else state.outcome is not None
        return self._gone

    def epitaph(self) -> str:
        """What to say of a launcher that is gone."""
        pid = read_launcher_pid(self._run_dir)
        who = "The launcher" if pid is None else f"The launcher (process {pid.pid} on {pid.host})"
        return f"{who} is gone without a last word: nobody leads this run any more."


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Draw]:
    """Something to draw with; the terminal is restored on the way out."""
    if not console.is_terminal or console.is_dumb_terminal:
        printer = PlainPrinter()

        def tell(_: RunState, events: list[AnyEvent]) -> None:
            for line in filter(None, map(printer.line, events)):
                console.print(line, markup=False, highlight=False, soft_wrap=True)

        yield tell
        return
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:

        def draw(state: RunState, _: list[AnyEvent]) -> None:
            width, height = console.size
            live.update(live_view(state, time.time(), width, height), refresh=True)

        yield draw
