"""Stock elastic Horovod with one worker that kills itself: what `recovery.py` compares our recovery with.

    horovodrun -np 4 --min-np 2 --host-discovery-script HOSTS python benchmarks/stock_elastic.py
        CONFIG.yaml LOG.jsonl --victim-host NAME --kill-step 12 --within 0.4

A worker on the victim's host kills itself in the step, once. LOG gets a line of JSON from the victim right before, and
one from rank 0 after each finished step; times are Unix seconds. The state is committed after each step, so that a
failure costs as little work as with us.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import threading
import time
from pathlib import Path

import horovod.torch as hvd
from workload import Workload

from ft_horovod.configfile import load_config

_TYPICAL_STEPS = 20


class Log:
    """Lines of JSON from several processes: one write a line."""

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, event: str, **fields: object) -> None:
        """Stamp an event with the time and write it."""
        os.write(self._fd, json.dumps({"event": event, "time_s": time.time(), **fields}).encode() + b"\n")


def main() -> None:
    arguments = _parse()
    log = Log(arguments.log)
    victim = os.environ.get("HOROVOD_HOSTNAME") == arguments.victim_host
    hvd.init()
    work = Workload(load_config(arguments.config, {}))
    optimizer = hvd.DistributedOptimizer(work.sgd(), named_parameters=work.model.named_parameters())
    state = hvd.elastic.TorchState(model=work.model, optimizer=optimizer, step=0)
    took_s: list[float] = []

    @hvd.elastic.run
    def train(state: hvd.elastic.TorchState) -> None:
        while state.step < work.steps:
            begun = time.monotonic()
            if victim and state.step == arguments.kill_step:
                _kill_in(log, state.step, arguments.within * statistics.median(took_s[-_TYPICAL_STEPS:]))
            batch = work.batch(state.step, hvd.rank(), hvd.size())
            optimizer.param_groups[0]["lr"] = work.rate(state.step)
            optimizer.zero_grad()
            loss = work.loss(batch)
            loss.backward()
            optimizer.step()
            loss.item()
            took_s.append(time.monotonic() - begun)
            if hvd.rank() == 0:
                log.write("step", step=state.step, step_s=took_s[-1], size=hvd.size())
            state.step += 1
            state.commit()

    train(state)


def _kill_in(log: Log, step: int, delay_s: float) -> None:
    """SIGKILL this process after a while, from a thread, as our fault injection does."""

    def strike() -> None:
        log.write("kill", step=step)
        os.kill(os.getpid(), signal.SIGKILL)

    timer = threading.Timer(delay_s, strike)
    timer.daemon = True
    timer.start()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("log", type=Path)
    parser.add_argument("--victim-host", required=True)
    parser.add_argument("--kill-step", type=int, required=True)
    parser.add_argument("--within", type=float, required=True, help="where in the step, as a fraction of it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
