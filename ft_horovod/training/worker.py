"""The worker process: `python -m ft_horovod.training.worker RUN_DIR`, started by mpirun.

Puts the parts together, runs the trainer, and ends the process with the documented code. MPI is initialised before
torch is imported, so that a newcomer keeps those who started it waiting for as short as can be.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from mpi4py import MPI

from ft_horovod.core.config import RunConfig
from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.errors import EXIT_BUG, EXIT_OK, Dismissed, FtHorovodError
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.trace import NewcomerDismissed, WorkerFailed, WorkerFinished, WorkerLeft, WorkerStarted
from ft_horovod.membership.board import Board, Pulse
from ft_horovod.runfolder import RunFolder
from ft_horovod.tracefile import TraceFile


def main() -> None:
    """Entry point; never returns. Not MPI_Finalize: after failures it can wait for the dead."""
    parser = argparse.ArgumentParser(prog="ft_horovod.training.worker")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--newcomers", help="names of the processes started with this one, in rank order")
    arguments = parser.parse_args()
    folder = RunFolder(arguments.run_dir)
    me = _who_am_i(arguments.newcomers)
    _redirect_output(folder, me)
    trace = TraceFile(folder.path, str(me))
    try:
        code = _run(folder, me, trace, newcomer=arguments.newcomers is not None)
    except Dismissed as error:
        trace.emit(NewcomerDismissed, worker=str(me), reason=str(error))
        code = error.exit_code
    except FtHorovodError as error:
        code = _failed(trace, me, error.exit_code, str(error))
    except Exception as error:  # noqa: BLE001  # the process entry point: whatever it is, the others must hear of it
        code = _failed(trace, me, EXIT_BUG, f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _who_am_i(newcomers: str | None) -> WorkerId:
    if newcomers is not None:
        return WorkerId.parse(newcomers.split(",")[MPI.COMM_WORLD.rank])
    # Not mpirun's local rank: on one host slots are to be numbered as ranks are.
    here = MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED, MPI.COMM_WORLD.rank)
    slot = here.rank
    here.Free()
    return WorkerId(socket.gethostname(), slot)


def _run(folder: RunFolder, me: WorkerId, trace: TraceFile, *, newcomer: bool) -> int:
    number = None if newcomer else MPI.COMM_WORLD.rank
    trace.emit(WorkerStarted, worker=str(me), number=number, host=me.host, pid=os.getpid(), late=newcomer)
    board = Board(Board.path_for(folder.name, me.host))
    pulse = Pulse(board, me.slot, me.incarnation)  # before the long imports: the others see that it is coming
    from ft_horovod.training.assembly import Assembly

    config = decode_yaml(folder.config.read_text(), RunConfig, source=str(folder.config))
    assembly = Assembly(config, folder, me, trace, pulse, newcomer=newcomer)
    trainer = assembly.trainer()

    def leave(*_: object) -> None:
        trainer.leaving = True

    signal.signal(signal.SIGTERM, leave)
    ending = trainer.run()
    assembly.membership.close()
    if ending == "left":
        trace.emit(WorkerLeft, worker=str(me), step=assembly.acts.progress.step)
    else:
        trace.emit(WorkerFinished, worker=str(me), weights_sha256=assembly.final_weights())
    return EXIT_OK


def _failed(trace: TraceFile, me: WorkerId, code: int, message: str) -> int:
    traceback.print_exc()
    trace.emit(WorkerFailed, worker=str(me), exit_code=code, message=message)
    return code


def _redirect_output(folder: RunFolder, me: WorkerId) -> None:
    """Python's and the libraries' output goes to a log of this worker's own."""
    log = os.open(folder.log(me), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {me}, process {os.getpid()}", flush=True)


if __name__ == "__main__":
    main()
