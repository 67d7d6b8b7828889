"""The command line: parsing only. What a command does lives in `launch`, `commit`, `status`, `install`, `simulator`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec
from rich.console import Console

from ft_horovod import __version__
from ft_horovod.core.errors import EXIT_INTERRUPTED, FtHorovodError
from launch.discover import hosts
from simulator.cli import COMMANDS as SIMULATOR_COMMANDS

_WIDTH_WITHOUT_TERMINAL = 120


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ft-horovod")
def commands() -> None:
    """Train ResNet on many workers, and lose milliseconds when some of them die."""


@commands.command()
@click.argument("config", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--workers", type=int, help="Members that compute.")
@click.option("--stages", type=int, help="Parts that the model is cut into, each held by a group: 1 to 5.")
@click.option("--backups", type=int, help="Members of each stage's group besides its leader.")
@click.option("--role", help="What backups do: replica (compute too) or standby (follow the leader's updates).")
@click.option("--spares", type=int, help="Warm processes that wait to take a dead member's place.")
@click.option("--min-workers", type=int, help="With fewer members the run ends with exit 75, to be resumed.")
@click.option("--respawn/--no-respawn", default=None, help="Start new processes when no spare is left.")
@click.option("--model", help="tiny, resnet18, resnet34, resnet50 or resnet101.")
@click.option("--norm", help="batch, group or frozen; the last two do not couple the samples of a batch.")
@click.option("--data", help="digits, cifar10, mnist, imagefolder or synthetic.")
@click.option("--data-root", type=click.Path(), help="Folder of the data set's files.")
@click.option("--image-size", type=int, help="Pixels.")
@click.option("--batch-size", type=int, help="Samples of a step over all workers: constant, whoever lives.")
@click.option("--micro-batch", type=int, help="Samples of one forward and backward pass.")
@click.option("--lr", type=float, help="Learning rate at the configuration's lr_batch; scaled to the batch size.")
@click.option("--steps", type=int, help="Optimizer steps in all.")
@click.option("--epochs", type=int, help="Data epochs in all, when --steps is not given.")
@click.option("--schedule", type=click.Path(), help="Fault schedule (YAML): what fails, when.")
@click.option("--commit", metavar="POLICY", help="auto, off, every-step, or by tier as in memory=1,disk=5m.")
@click.option("--hosts", help="Hosts as mpirun's --host takes them; this machine when not given.")
@click.option("--network", help="Network between the hosts, as CIDR.")
@click.option("--device", help="auto, cpu or cuda.")
@click.option("--seed", type=int, help="Seed of weights, sample order and augmentation.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/DATE-MODEL when not given.")
@click.option("--resume", type=click.Path(path_type=Path), metavar="RUN", help="Go on with the run in this folder.")
@click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")
def train(config: Path | None, out: Path | None, resume: Path | None, plain: bool, **flags: object) -> None:
    """Train as CONFIG (YAML) says; flags override it."""
    from ft_horovod.configfile import load_config
    from ft_horovod.core.errors import ConfigError
    from ft_horovod.runfolder import RunFolder
    from launch.run import run

    if resume is not None and (config is not None or out is not None):
        raise ConfigError("--resume takes its configuration from the run folder: no CONFIG, no --out")
    given = {_KEYS[name]: value for name, value in flags.items()}
    settings = load_config(RunFolder(resume).config if resume else config, given)
    if resume is not None and flags["schedule"] is None:
        settings = msgspec.structs.replace(settings, schedule=None)  # its faults have struck already
    folder = resume or out or Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{settings.model.name}"
    sys.exit(run(settings, folder, _console(plain), resume=resume is not None))


_KEYS = {
    "workers": "layout.workers",
    "stages": "layout.stages",
    "backups": "layout.backups",
    "role": "layout.role",
    "spares": "layout.spares",
    "min_workers": "layout.min_workers",
    "respawn": "layout.respawn",
    "model": "model.name",
    "norm": "model.norm",
    "device": "model.device",
    "data": "data.name",
    "data_root": "data.root",
    "image_size": "data.image_size",
    "batch_size": "data.batch_size",
    "micro_batch": "data.micro_batch",
    "lr": "optimizer.lr",
    "steps": "steps",
    "epochs": "epochs",
    "schedule": "schedule",
    "commit": "commit.policy",
    "hosts": "launcher.hosts",
    "network": "launcher.network",
    "seed": "seed",
}


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")
def status(run: Path, plain: bool) -> None:
    """Show the run in the folder RUN: follow it while it goes, sum it up when it is over."""
    from ft_horovod.status.attach import attach

    sys.exit(attach(run, _console(plain)))


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(0, min_open=True), default=10.0, show_default=True, help="Times as fast."
)
@click.option("--costs", type=click.Path(path_type=Path), help="Cost model of `calibrate`, from other runs than this.")
@click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")
def replay(run: Path, speed: float, costs: Path | None, plain: bool) -> None:
    """Play the recorded run in the folder RUN, then compare it with what the simulator predicts for it."""
    from ft_horovod.status.replay import play
    from simulator.cli import show_prediction
    from simulator.live import read_events

    play(read_events(run), _console(plain), speed)
    show_prediction(run, costs)


@commands.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Read every file and verify its checksum; else presence and sizes only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
@click.option("--plain", is_flag=True, help="Plain lines instead of a table.")
def commits(run: Path, check: bool, as_json: bool, plain: bool) -> None:
    """List the commits of the run in the folder RUN: the states that it can be resumed from."""
    from ft_horovod.commit.inventory import in_host_memory, on_disk
    from ft_horovod.core.errors import ConfigError
    from ft_horovod.runfolder import RunFolder
    from ft_horovod.status import commits_view

    folder = RunFolder(run)
    if not folder.config.is_file():
        raise ConfigError("no run: there is no config.yaml in this folder", source=str(run))
    try:
        rows = [
            *in_host_memory(folder.name, time.time(), contents=check),
            *on_disk(folder.commits, time.time(), contents=check),
        ]
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", source=str(folder.commits)) from error
    if as_json:
        click.echo(commits_view.as_json(rows))
    else:
        commits_view.show(rows, _console(plain))


for _command in (hosts, *SIMULATOR_COMMANDS):
    commands.add_command(_command)


@commands.command()
def doctor() -> None:
    """Check that this machine can train, and say what to do about what is missing."""
    from ft_horovod.install.doctor import failed, render, run_checks

    checks = run_checks()
    _console(plain=False).print(render(checks))
    sys.exit(int(failed(checks)))


def _console(plain: bool) -> Console:
    if plain or not sys.stdout.isatty():
        return Console(force_terminal=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    return Console()


def main() -> None:
    """Entry point of `ft-horovod`."""
    try:
        commands()
    except FtHorovodError as error:
        click.echo(f"ft-horovod: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
