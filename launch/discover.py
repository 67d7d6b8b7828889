"""`ft-horovod hosts`: which hosts a job may use now, as horovodrun's discovery script prints them.

Standard output carries `host:slots` lines, or JSON, and nothing else; all that is said goes to standard error. This
module knows flags and what is printed; the rest is in `launch.discovery`. It imports little: horovodrun calls it once a
second.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
import msgspec

from ft_horovod.core.errors import EXIT_BUG, EXIT_INTERRUPTED, ConfigError, FtHorovodError
from launch.discovery import ledger as rules
from launch.discovery.answer import Answer, find_hosts
from launch.discovery.cache import State
from launch.discovery.hosts import parse_host, parse_number, split_number
from launch.discovery.ledger import Ledger
from launch.discovery.options import Options
from launch.discovery.reading import Source, detect
from launch.discovery.script import write_script

_NAME = "ft-horovod hosts"
_LAST_S = 5.0  # beyond the limit of the source
_TERMINATED = 128 + signal.SIGTERM


class Seconds(click.FloatRange):
    """A number of seconds; NaN, which no range keeps out, is none."""

    name = "seconds"

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        return number


@click.command("hosts")
@click.option("--static", metavar="FILE", help="A file: HOST, HOST:SLOTS or HOST slots=N a line, # for comments.")
@click.option("--hostfile", metavar="FILE", help="The same, written by somebody else (Kubernetes): may start empty.")
@click.option("--command", metavar="TEXT", help="A shell command that prints such lines.")
@click.option("--slurm", is_flag=True, help="The allocation of the Slurm job around us.")
@click.option("--pbs", is_flag=True, help="PBS_NODEFILE.")
@click.option("--lsf", is_flag=True, help="LSB_DJOB_HOSTFILE, LSB_MCPU_HOSTS or LSB_HOSTS.")
@click.option("--slots", type=click.IntRange(1, 65_535), help="Slots of a host for which the source names none.")
@click.option("--state", metavar="DIR", help="Where failures and the last good answer are kept.")
@click.option("--exclude", metavar="HOST", multiple=True, help="Do without HOST from now on.")
@click.option("--readmit", metavar="HOST", multiple=True, help="Use HOST again, and forget its failures.")
@click.option("--report-failure", metavar="HOST[:SLOT]", multiple=True, help="A worker died there.")
@click.option("--limit", type=Seconds(0.1, 60), default=5.0, show_default=True, help="Seconds for the source.")
@click.option("--refresh", type=Seconds(0), default=0.0, help="Ask the source at most every so many seconds.")
@click.option("--max-age", type=Seconds(0), default=3600.0, help="Seconds that a last good answer is of use.")
@click.option("--failure-limit", type=click.IntRange(1), default=3, help="Failures that put a host out; 1: as Horovod.")
@click.option("--window", type=Seconds(0), default=300.0, help="Seconds within which they count.")
@click.option("--cooldown", type=Seconds(0), default=30.0, help="Seconds out; doubles; inf: for good.")
@click.option("--cooldown-cap", type=Seconds(0), default=1800.0, help="Seconds out at most.")
@click.option("--script", metavar="PATH", help="Write a script for horovodrun that calls this with these options.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with what was left out and why.")
def hosts(**flags: object) -> None:
    """Print the hosts that a job may use now, HOST:SLOTS a line, as horovodrun --host-discovery-script wants them.

    The source is a file, a command, or the scheduler whose job this runs in. With --state (and with --script, beside
    the script) failures and the last good answer are remembered. --exclude, --readmit and --report-failure are written
    down there at once; without a source nothing is printed then.
    """
    options = msgspec.convert(flags, Options)
    before = signal.signal(signal.SIGTERM, _end)  # a command that is running is ended with us
    try:
        with _ended_at_last(options.limit):
            _run(options)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(options: Options) -> None:
    source = options.source()
    state = None if options.state_folder is None else State(options.state_folder)
    if options.acts:
        _act(options, state)
    if options.script_path is not None:
        _write(options, source, options.script_path)
    elif source is not None or not options.acts:
        source = source or detect(os.environ, options.slots)
        found = find_hosts(source, state, os.environ, time.time, policy=options.policy, limits=options.limits)
        _print(found, options.as_json)


def _print(found: Answer, as_json: bool) -> None:
    for note in found.notes:
        _say(note)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
        return
    for one in found.hosts:
        if ":" in one.host:  # it would reject all lines for the sake of this one
            raise ConfigError(
                f"horovodrun cannot read the address {one.host}: give the host a name", source=found.source
            )
    for one in found.hosts:
        click.echo(str(one))
    if not found.hosts and not found.notes:
        _say("no host can be used now")


def _act(options: Options, state: State | None) -> None:
    """Write down what an operator, or a launcher, says. Raises ConfigError when it cannot be."""
    if state is None:
        raise ConfigError("--exclude, --readmit and --report-failure are written down: give --state DIR")
    state.change_ledger(lambda ledger: _acted(ledger, options, time.time()))
    for problem in state.problems:
        _say(problem)


def _acted(ledger: Ledger, options: Options, now_s: float) -> Ledger:
    for text in options.report_failure:
        ledger = _reported(ledger, text, now_s)
    for text in options.exclude:
        ledger = rules.exclude(ledger, _host(text, "--exclude"))
    for text in options.readmit:
        ledger = rules.readmit(ledger, _host(text, "--readmit"))
    return ledger


def _reported(ledger: Ledger, text: str, now_s: float) -> Ledger:
    name, number = split_number(text)
    try:
        slot = None if number is None else parse_number(number, "a slot")
        return rules.report_failure(ledger, parse_host(name), slot, now_s)
    except ValueError as error:
        raise ConfigError(str(error), source="--report-failure") from error


def _host(text: str, flag: str) -> str:
    try:
        return parse_host(text)
    except ValueError as error:
        raise ConfigError(str(error), source=flag) from error


def _write(options: Options, source: Source | None, path: Path) -> None:
    """Write the script, and say how to use it."""
    write_script(path, options.words(source))
    _say(f"wrote {path}; use it with: horovodrun --host-discovery-script {path} ...")


def _say(text: str) -> None:
    click.echo(f"{_NAME}: {text}", err=True)


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)


@contextlib.contextmanager
def _ended_at_last(limit_s: float) -> Iterator[None]:
    """Whatever hangs, a file of the state on a lost server too: this process does not outlive its limit by much."""

    def end() -> None:
        _say("did not end in time: is the state on a file system that does not answer?")
        os._exit(EXIT_BUG)

    timer = threading.Timer(limit_s + _LAST_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def main() -> None:
    """Entry point of the script that horovodrun calls."""
    try:
        hosts(prog_name=_NAME)
    except FtHorovodError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
