"""Recovery of stock elastic Horovod: one run under horovodrun with one kill, timed like ours.

horovodrun gives up on the whole host of a worker that died, so the victim is alone on a "host" of its own and the
others share two: `localhost`, 127.0.0.1 and the machine's own name, which must be an address of this machine, count as
three hosts and are all started without ssh. This module starts the run and reads its log; the worker script is
`stock_elastic`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, TypedDict, cast

import msgspec
from common import ROOT
from ours import scratch_folder, trainer_environment
from processes import started

from ft_horovod.core.config import RunConfig
from ft_horovod.core.decode import encode_yaml
from launch.mpirun import worker_environment

LIMIT_S = 180.0
STEPS_AFTER = 6
_KILL_STEP = 12
_COLD_STEPS = 3
_POLL_S = 0.2
_EXIT_S = 15.0  # from the last step to the end of horovodrun


class StockTry(msgspec.Struct, frozen=True, kw_only=True):
    """One kill; times as in `KillCost`.

    `outcome`: lost (the job ended without another step), hung (no other step within the limit), or failed (nobody was
    killed: the run did not get that far). `clean_exit`: horovodrun ended by itself after the last step.
    """

    outcome: Literal["recovered", "lost", "hung", "failed"]
    total_s: float | None = None
    step_s: float | None = None
    less_one_step_s: float | None = None
    delay_s: float | None = None
    members_after: int | None = None
    clean_exit: bool = False


class _Event(TypedDict):
    """A line of the workers' log; see `stock_elastic`. Kills have no `step_s` and no `size`."""

    event: Literal["step", "kill"]
    time_s: float
    step: int
    step_s: float
    size: int


def try_stock(config: RunConfig, rng: random.Random, limit_s: float = LIMIT_S) -> StockTry:
    """One run of `config.layout.workers` workers, of which one is killed, ended after `limit_s` at the latest."""
    steps = _KILL_STEP + STEPS_AFTER
    config = msgspec.structs.replace(config, steps=steps)
    with scratch_folder() as folder:
        path, events_path, log = folder / "config.yaml", folder / "events.jsonl", folder / "output.log"
        path.write_text(encode_yaml(config))
        command = _command(config.layout.workers, folder, path, events_path, within=rng.random())
        threads = worker_environment(config.layout.workers)["OMP_NUM_THREADS"]
        environment = {**trainer_environment(), "OMP_NUM_THREADS": threads}
        with started(command, log, env=environment) as process:
            exited = _wait(process, events_path, steps, limit_s)
        return _judge(_read(events_path), exited=exited)


def _command(workers: int, folder: Path, config: Path, events: Path, *, within: float) -> list[str]:
    victim_host = socket.gethostname()
    half = (workers - 1) // 2
    hosts = {"localhost": workers - 1 - half, "127.0.0.1": half, victim_host: 1}
    discover = folder / "hosts.sh"
    discover.write_text("#!/bin/sh\n" + "".join(f"echo {host}:{slots}\n" for host, slots in hosts.items() if slots))
    discover.chmod(0o755)
    here = str(Path(sys.executable).parent)
    horovodrun = shutil.which("horovodrun", path=os.pathsep.join([here, os.environ.get("PATH", "")])) or "horovodrun"
    launcher = [horovodrun, "-np", str(workers), "--min-np", "1", "--max-np", str(workers)]
    script = [sys.executable, str(ROOT / "benchmarks" / "stock_elastic.py"), str(config), str(events)]
    victim = ["--victim-host", victim_host, "--kill-step", str(_KILL_STEP), "--within", f"{within:.3f}"]
    return [*launcher, "--host-discovery-script", str(discover), *script, *victim]


def _wait(process: subprocess.Popen[bytes], events: Path, steps: int, limit_s: float) -> bool:
    """Until the program ends, or its last step is some time ago, or the limit. True when it ended by itself."""
    give_up = time.monotonic() + limit_s
    seen_last = False
    while process.poll() is None and time.monotonic() < give_up:
        if not seen_last and any(event["event"] == "step" and event["step"] == steps - 1 for event in _read(events)):
            seen_last, give_up = True, min(give_up, time.monotonic() + _EXIT_S)
        time.sleep(_POLL_S)
    return process.poll() is not None


def _read(events: Path) -> list[_Event]:
    try:
        return [cast(_Event, json.loads(line)) for line in events.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _judge(events: list[_Event], *, exited: bool) -> StockTry:
    killed_at = next((event["time_s"] for event in events if event["event"] == "kill"), None)
    if killed_at is None:
        return StockTry(outcome="failed")
    steps = [event for event in events if event["event"] == "step"]
    size = max(event["size"] for event in steps)
    after = next((event for event in steps if event["time_s"] > killed_at and event["size"] < size), None)
    if after is None:
        return StockTry(outcome="lost" if exited else "hung")
    step_s = statistics.median(e["step_s"] for e in steps if e["time_s"] < killed_at and e["step"] >= _COLD_STEPS)
    total_s = after["time_s"] - killed_at
    before_it = max(event["time_s"] for event in steps if event["time_s"] < after["time_s"])
    return StockTry(
        outcome="recovered",
        total_s=total_s,
        step_s=step_s,
        less_one_step_s=total_s - step_s,
        delay_s=after["time_s"] - before_it - step_s,
        members_after=after["size"],
        clean_exit=exited,
    )
