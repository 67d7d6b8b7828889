"""Plays the trace of a finished run in the terminal, at any speed, with the views of a run that goes on.

Has a clock of its own: the trace's, sped up. On a terminal it fills the screen; elsewhere it prints a line for each
noteworthy event.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live

from ft_horovod.core.trace import AnyEvent
from ft_horovod.status.plain import PlainPrinter
from ft_horovod.status.run_state import RunState
from ft_horovod.status.views import live_view

FRAMES_PER_S = 8


def play(events: Sequence[AnyEvent], console: Console, speed: float) -> RunState:
    """Show `events`, in time order, `speed` times as fast as they happened; gives the state at the end."""
    state = RunState()
    if not console.is_terminal or console.is_dumb_terminal:
        printer = PlainPrinter()
        for event in events:
            state.apply(event)
            line = printer.line(event)
            if line:
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        return state
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        begun_s, first_s, told = time.monotonic(), events[0].time_s, 0
        while told < len(events):
            now_s = first_s + (time.monotonic() - begun_s) * speed
            while told < len(events) and events[told].time_s <= now_s:
                state.apply(events[told])
                told += 1
            width, height = console.size
            live.update(live_view(state, now_s, width, height), refresh=True)
            time.sleep(1 / FRAMES_PER_S)
    return state
