"""A run from its configuration to its summary: prepare the folder, start, show, end, sum up."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from ft_horovod import __version__
from ft_horovod.configfile import check_schedule
from ft_horovod.core.config import RunConfig
from ft_horovod.core.decode import encode_yaml
from ft_horovod.runfolder import RunFolder
from ft_horovod.status.final_view import final_view
from ft_horovod.status.follow import read_trace
from ft_horovod.status.live import show
from ft_horovod.status.run_state import RunState
from ft_horovod.status.summary import summarize
from ft_horovod.training.formats import check_data
from launch.supervise import Job


def run(config: RunConfig, path: Path, console: Console, *, resume: bool = False) -> int:
    """Train as `config` says, in the run folder `path`; returns the exit code.

    Everything that can be wrong with the input is found before a process is started or a file written. Raises
    ConfigError.
    """
    faults = check_schedule(config)
    check_data(config.data)
    folder = RunFolder(path)
    if resume:
        folder.prepare()
    else:
        folder.create()
    folder.config.write_text(encode_yaml(config))
    folder.faults.write_bytes(msgspec.json.encode(faults))
    code = _run_job(Job(config, folder), path, console)
    _sum_up(folder, console)
    return code


def _run_job(job: Job, path: Path, console: Console) -> int:
    """Start the job and see it to its end, however that comes."""
    interrupted = False
    before = signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        job.start(__version__)
        show(path, job, console, stop=job.over)
    except KeyboardInterrupt:
        interrupted = True
        console.print("interrupted: the workers are asked to commit and end", style="yellow")
    finally:
        signal.signal(signal.SIGTERM, before)
        code = job.end(interrupted=interrupted)
    return code


def _sum_up(folder: RunFolder, console: Console) -> None:
    events = read_trace(folder.path)
    summary = summarize(events)
    summary.write_summary(folder.summary)
    state = RunState()
    for event in events:
        state.apply(event)
    console.print(final_view(state, summary, folder.path))


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A scheduler's SIGTERM is answered as a Ctrl-C is."""
    raise KeyboardInterrupt
