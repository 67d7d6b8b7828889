"""Recovery of stock elastic Horovod: one run under horovodrun with one kill, timed like ours.

horovodrun gives up on the whole host of a worker that died, so the victim is alone on a "host" of its own: the names
`localhost` and the machine's own both mean this machine. This module starts the run and reads its log; the worker
script is `stock_elastic`.
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

import msgspec
from common import ROOT
from ours import scratch_folder, trainer_environment
from processes import log_tail, started

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
    """One kill; times as in `KillCost`. `outcome`: recovered, hung (limit exceeded), or failed with a message.

    `clean_exit`: horovodrun ended by itself after the last step.
    """

    outcome: str
    total_s: float | None = None
    step_s: float | None = None
    less_one_step_s: float | None = None
    members_after: int | None = None
    clean_exit: bool = False


def try_stock(config: RunConfig, rng: random.Random, limit_s: float = LIMIT_S) -> StockTry:
    """One run of `config.layout.workers` workers, of which one is killed, ended after `limit_s` at the latest."""
    steps = _KILL_STEP + STEPS_AFTER
    config = msgspec.structs.replace(config, steps=steps)
    with scratch_folder() as folder:
        path, events_path, log = folder / "config.yaml", folder / "events.jsonl", folder / "output.log"
        path.write_text(encode_yaml(config))
        command = _command(config.layout.workers, folder, path, events_path, within=rng.random())
        environment = {**trainer_environment(), "OMP_NUM_THREADS": _threads(config.layout.workers)}
        with started(command, log, env=environment) as process:
            exited = _wait(process, events_path, steps, limit_s)
        return _judge(_read(events_path), exited, log_tail(log))


def _command(workers: int, folder: Path, config: Path, events: Path, *, within: float) -> list[str]:
    victim_host = socket.gethostname()
    hosts = folder / "hosts.sh"
    hosts.write_text(f"#!/bin/sh\necho localhost:{workers - 1}\necho {victim_host}:1\n")
    hosts.chmod(0o755)
    here = str(Path(sys.executable).parent)
    horovodrun = shutil.which("horovodrun", path=os.pathsep.join([here, os.environ.get("PATH", "")])) or "horovodrun"
    launcher = [horovodrun, "-np", str(workers), "--min-np", str(workers - 1), "--max-np", str(workers)]
    script = [sys.executable, str(ROOT / "benchmarks" / "stock_elastic.py"), str(config), str(events)]
    victim = ["--victim-host", victim_host, "--kill-step", str(_KILL_STEP), "--within", f"{within:.3f}"]
    return [*launcher, "--host-discovery-script", str(hosts), *script, *victim]


def _threads(workers: int) -> str:
    return worker_environment(workers)["OMP_NUM_THREADS"]


def _wait(process: subprocess.Popen[bytes], events: Path, steps: int, limit_s: float) -> bool:
    """Until the program ends, or its last step is some time ago, or the limit. True when it ended by itself."""
    give_up = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < give_up:
        if any(event["event"] == "step" and event["step"] == steps - 1 for event in _read(events)):
            give_up = min(give_up, time.monotonic() + _EXIT_S)
            steps = 0  # seen; do not look again
        time.sleep(_POLL_S)
    return process.poll() is not None


def _read(events: Path) -> list[dict[str, float | str]]:
    try:
        return [json.loads(line) for line in events.read_text().splitlines()]
    except FileNotFoundError:
        return []


def _judge(events: list[dict[str, float | str]], exited: bool, last_lines: str) -> StockTry:
    killed_at = next((float(event["time_s"]) for event in events if event["event"] == "kill"), None)
    steps = [event for event in events if event["event"] == "step"]
    if killed_at is None:
        return StockTry(outcome="failed: nobody was killed; " + last_lines)
    size = max(int(event["size"]) for event in steps)
    undisturbed = [
        float(e["step_s"]) for e in steps if float(e["time_s"]) < killed_at and int(e["step"]) >= _COLD_STEPS
    ]
    after = next((e for e in steps if float(e["time_s"]) > killed_at and int(e["size"]) < size), None)
    if after is None:
        return StockTry(outcome="failed: ended without another step" if exited else "hung")
    total_s, step_s = float(after["time_s"]) - killed_at, statistics.median(undisturbed)
    return StockTry(
        outcome="recovered",
        total_s=total_s,
        step_s=step_s,
        less_one_step_s=total_s - step_s,
        members_after=int(after["size"]),
        clean_exit=exited,
    )
