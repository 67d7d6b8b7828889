"""Horovod without fault tolerance, as one would write it: the yardstick of `overhead.py`, which starts it by mpirun.

    mpirun -n 4 python benchmarks/plain_horovod.py CONFIG.yaml TIMES.json

Rank 0 writes how long each step took, and how long it was from the end of each to the end of the next, in seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import horovod.torch as hvd
import msgspec
from workload import Workload

from ft_horovod.configfile import load_config


def main() -> None:
    config_path, times_path = map(Path, sys.argv[1:])
    hvd.init()
    work = Workload(load_config(config_path, {}))
    optimizer = hvd.DistributedOptimizer(work.sgd(), named_parameters=work.model.named_parameters())
    hvd.broadcast_parameters(work.model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    step_s: list[float] = []
    period_s: list[float] = []
    ended = time.monotonic()
    for step in range(work.steps):
        begun = time.monotonic()
        batch = work.batch(step, hvd.rank(), hvd.size())
        optimizer.param_groups[0]["lr"] = work.rate(step)
        optimizer.zero_grad()
        loss = work.loss(batch)
        loss.backward()
        optimizer.step()
        last_loss = loss.item()
        before, ended = ended, time.monotonic()
        step_s.append(ended - begun)
        period_s.append(ended - before)

    if hvd.rank() == 0:
        times = {"step_s": step_s, "period_s": period_s, "loss": last_loss}
        times_path.write_bytes(msgspec.json.encode(times))
    hvd.shutdown()


if __name__ == "__main__":
    main()
