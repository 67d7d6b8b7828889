"""Carries out the faults of a schedule, in the worker they strike.

Each worker has the whole list and acts on what names it: by its number, or by the role it has when the moment comes.
The trace is told just before. This module knows how to strike; what strikes when is `core.schedule`'s.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from ft_horovod.core.identity import Role
from ft_horovod.core.schedule import PlannedFault
from ft_horovod.core.trace import FaultInjected
from ft_horovod.tracefile import TraceFile


class Injector:
    """The faults of one worker."""

    def __init__(self, faults: Sequence[PlannedFault], trace: TraceFile, name: str, grow: Callable[[], None]):
        """`grow` asks for a newcomer; only a leader is asked to."""
        self._faults, self._trace, self._name, self._grow = list(faults), trace, name, grow
        self._kills = [fault for fault in faults if fault.kind == "kill"]
        self._number: int | None = None
        self._role: tuple[Role, int | None] = (Role.SPARE, None)
        self._step = 0
        self._dragging_until = 0.0
        self._drag_factor = 1.0
        self._last_drag = 0.0
        self._clock: threading.Thread | None = None

    def be(self, number: int, role: tuple[Role, int | None]) -> None:
        """This worker's number in launch order and its role from now on; the clock of timed faults starts here."""
        self._number, self._role = number, role
        if self._clock is None and any(fault.time_s is not None for fault in self._faults):
            self._clock = threading.Thread(target=self._strike_by_time, name="fault-clock", daemon=True)
            self._clock.start()

    def kills(self, number: int, role: Role) -> bool:
        """Whether the schedule kills the worker of this number, or whoever has its role."""
        return any(kill.worker == number or kill.role == role.value for kill in self._kills)

    def at_step(self, step: int, typical_s: float) -> None:
        """`step` begins, and will take about `typical_s`."""
        self._step = step
        for fault in [f for f in self._faults if f.step == step and self._is_mine(f)]:
            self._faults.remove(fault)
            delay_s = fault.within * typical_s
            if fault.kind in ("kill", "hang") and delay_s > 0:
                timer = threading.Timer(delay_s, self._strike, [fault])
                timer.daemon = True
                timer.start()
            else:
                self._strike(fault)

    def drag(self) -> None:
        """Called at every layer: a slowed worker idles here for a multiple of what it took since the last call."""
        if not self._dragging_until:
            return
        now = time.monotonic()
        if now >= self._dragging_until:
            self._dragging_until = 0.0
            return
        time.sleep(min(max(now - self._last_drag, 0.0), 1.0) * (self._drag_factor - 1))
        self._last_drag = time.monotonic()

    def _is_mine(self, fault: PlannedFault) -> bool:
        role, stage = self._role
        if fault.kind == "join":
            return role is Role.LEADER
        if fault.role is not None:
            return role.value == fault.role and fault.stage in (None, stage)
        return fault.worker == self._number

    def _strike(self, fault: PlannedFault) -> None:
        self._trace.emit(
            FaultInjected, kind=fault.kind, worker=self._name, step=self._step, duration_s=fault.duration_s
        )
        match fault.kind:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                self._hang(fault.duration_s)
            case "leave":
                os.kill(os.getpid(), signal.SIGTERM)
            case "join":
                self._grow()
            case "slow":
                self._drag_factor = fault.factor
                self._last_drag = time.monotonic()
                self._dragging_until = self._last_drag + (fault.duration_s or float("inf"))

    @staticmethod
    def _hang(duration_s: float | None) -> None:
        """Stop this process; somebody outside it must start it again."""
        if duration_s is not None:
            subprocess.Popen(["sh", "-c", f"sleep {duration_s}; kill -CONT {os.getpid()}"], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)

    def _strike_by_time(self) -> None:
        started = time.monotonic()
        for fault in sorted((f for f in self._faults if f.time_s is not None), key=lambda f: f.time_s or 0.0):
            time.sleep(max(0.0, started + (fault.time_s or 0.0) - time.monotonic()))
            if self._is_mine(fault):
                self._strike(fault)
