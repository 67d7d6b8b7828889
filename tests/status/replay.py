"""Plays a fake run into a run folder as time goes by, to look at the live view: `python tests/status/replay.py RUN`.

Look with `ft-horovod status RUN`, or give `--show` to look from here.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from fake_run import FakeRun
from rich.console import Console

from ft_horovod.core.trace import AnyEvent, encode
from ft_horovod.status.final_view import final_view
from ft_horovod.status.follow import Merger, read_trace
from ft_horovod.status.launcher_pid import LauncherPid
from ft_horovod.status.live import show
from ft_horovod.status.summary import summarize


def story(workers: int, spares: int, stages: int, hosts: int) -> list[AnyEvent]:
    """A run of about half a minute with a bit of everything."""
    names = [f"node-{i + 1}" for i in range(hosts)]
    run = FakeRun(workers=workers, spares=spares, stages=stages, hosts=names, steps=240, step_s=0.1)
    run.started().train(30).strike().train(20).commit().train(10)
    run.strike(run.layout.members[0], "hang").train(25).strike(run.layout.members[1]).train(10).commit()
    run.join(slot=9).train(30).leave(run.layout.members[-1]).train(20).commit().evaluate(0.91).train(10)
    run.strike().train(240 - run.step).commit().evaluate()
    return run.finish().events


def play(run_dir: Path, events: list[AnyEvent]) -> None:
    """Write each event when its time has come, to the file of who wrote it."""
    (run_dir / "trace").mkdir(parents=True, exist_ok=True)
    shift_s = time.time() - events[0].time_s
    for event in sorted(events, key=lambda event: event.time_s):
        time.sleep(max(0.0, event.time_s + shift_s - time.time()))
        name = "launcher" if event.by == "launcher" else event.by.replace(":", "-").replace("#", "-") + "-0"
        with (run_dir / "trace" / f"{name}.jsonl").open("ab") as file:
            file.write(encode(msgspec.structs.replace(event, time_s=event.time_s + shift_s)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", nargs="?", type=Path)
    parser.add_argument("--show", action="store_true")
    for name, default in (("workers", 4), ("spares", 2), ("stages", 1), ("hosts", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    run_dir = args.run_dir or Path(tempfile.mkdtemp(prefix="replay-"))
    run_dir.mkdir(parents=True, exist_ok=True)
    LauncherPid.of_this_process().write(run_dir)
    events = story(args.workers, args.spares, args.stages, args.hosts)
    player = threading.Thread(target=play, args=(run_dir, events), daemon=True)
    player.start()
    if args.show:
        console, merger = Console(), Merger(run_dir)
        state = show(run_dir, merger, console, lambda: not player.is_alive())
        console.print(final_view(state, summarize(read_trace(run_dir)), run_dir))
    else:
        player.join()


if __name__ == "__main__":
    main()
