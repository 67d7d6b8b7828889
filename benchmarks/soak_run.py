"""One run of the soak: started, struck, watched for a hang, and kept when there is something to see in it.

This module knows processes and folders. Who is struck is `soak_strikes`' business, what came of it `soak_verdict`'s.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from common import RESULTS
from ours import GENTLE_S, board_of, config_of, prepare, scratch_folder, trainer_environment
from processes import end_descendants, living_descendants, started
from soak_strikes import Habits, Striker
from soak_verdict import Strike, Verdict, judge

from ft_horovod.core.config import LayoutConfig, ModelName, NormName
from ft_horovod.core.trace import AnyEvent, StepFinished, TrainingStarted
from ft_horovod.status.follow import Tail, read_trace

EVIDENCE = RESULTS / "hangs"
_POLL_S = 0.01
_DUMP_LIMIT_S = 20.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to be; everything random in it comes from `seed`."""

    number: int
    seed: int
    model: ModelName
    workers: int
    spares: int
    norm: NormName
    respawn: bool
    stages: int = 1
    role: Literal["replica", "standby"] = "replica"
    strikes: int
    steps: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a run hangs: it takes longer than `run_s`, or tells nothing new for `silence_s` once it trains."""

    run_s: float
    silence_s: float


class SoakRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is over. `hung`: why it was ended by us; None when it ended by itself. Times in seconds."""

    plan: Plan
    hung: str | None
    verdict: Verdict
    wall_s: float
    step_s: float | None
    evidence: str | None


def soak_once(plan: Plan, habits: Habits, limits: Limits, tell: Callable[[Striker], None]) -> SoakRun:
    """Do one run; `tell` is called all the time."""
    layout = LayoutConfig(
        workers=plan.workers, spares=plan.spares, respawn=plan.respawn, stages=plan.stages, role=plan.role
    )
    config = config_of(plan.model, layout, plan.steps, plan.norm)
    began = time.monotonic()
    with scratch_folder() as folder:
        run, log = folder / "run", folder / "output.log"
        striker = Striker(board_of(run), random.Random(plan.seed), habits, plan.strikes)
        with started(prepare(config, folder), log, env=trainer_environment(), gentle_s=GENTLE_S) as process:
            hung = _attend(process, Tail(run), striker, limits, tell)
            stacks = _stacks() if hung else {}
            if hung:
                end_descendants()  # at once: the evidence is to show the hang, not how it was ended
        events = read_trace(run)
        verdict = judge(events, striker.strikes, hung=hung is not None)
        keep = hung is not None or verdict.suspicious
        return SoakRun(
            plan=plan,
            hung=hung,
            verdict=verdict,
            wall_s=time.monotonic() - began,
            step_s=_step_s(events),
            evidence=_keep(folder, plan, hung, striker.strikes, stacks) if keep else None,
        )


def _attend(
    process: subprocess.Popen[bytes], tail: Tail, striker: Striker, limits: Limits, tell: Callable[[Striker], None]
) -> str | None:
    """Strike until the run ends; says why it hangs, if it does."""
    began = heard = time.monotonic()
    trains = False
    while process.poll() is None:
        fresh = tail.poll()
        now = time.monotonic()
        if fresh:
            heard = now
            trains = trains or any(isinstance(event, TrainingStarted) for event in fresh)
            striker.hear(fresh)
        if now - began > limits.run_s:
            return f"took more than {limits.run_s:.0f} s"
        if trains and now - heard > limits.silence_s:
            return f"told nothing new for {limits.silence_s:.0f} s"
        striker.act()
        tell(striker)
        time.sleep(_POLL_S)
    return None


def _stacks() -> dict[str, str]:
    """What every process of the run is doing: by py-spy, if it is there, and by the kernel."""
    spy = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    found = {}
    for process in list(living_descendants()):
        name = f"stack-{process.pid}.txt"
        found[name] = _kernel_state(process.pid)
        if spy:
            dump = [spy, "dump", "--pid", str(process.pid)]
            found[name] += _output([*dump, "--native"]) or _output([*dump, "--nonblocking"])
    return found


def _kernel_state(pid: int) -> str:
    parts = []
    for part in ("cmdline", "status", "wchan"):
        try:
            text = Path(f"/proc/{pid}/{part}").read_text(errors="replace").replace("\0", " ")
        except OSError as error:
            text = str(error)
        parts.append(f"== {part}\n{text}\n")
    return "".join(parts)


def _output(command: Sequence[str]) -> str:
    """A command's output; empty when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DUMP_LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _step_s(events: Sequence[AnyEvent]) -> float | None:
    """How long a step took on average, failures included: what the next run's length is planned with."""
    steps = [event.time_s for event in events if isinstance(event, StepFinished)]
    return (steps[-1] - steps[0]) / (len(steps) - 1) if len(steps) > 1 else None


def _keep(folder: Path, plan: Plan, hung: str | None, strikes: Sequence[Strike], stacks: dict[str, str]) -> str:
    """Copy trace and logs to a folder of their own, with what was done; returns its name."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{'hang' if hung else 'loss'}-run{plan.number}"
    target = EVIDENCE / name
    shutil.copytree(folder / "run", target, ignore=shutil.ignore_patterns("commits", "ready"), dirs_exist_ok=True)
    shutil.copy(folder / "output.log", target / "output.log")
    (target / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    (target / "strikes.json").write_bytes(msgspec.json.format(msgspec.json.encode(strikes)))
    for file, text in stacks.items():
        (target / file).write_text(text)
    return name
