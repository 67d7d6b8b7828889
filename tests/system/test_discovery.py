"""A real elastic start: horovodrun, our discovery script, workers that say who they are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT_S = 60.0

WORKER = """
import os, sys
import horovod.torch as hvd
hvd.init()
with open(os.path.join(sys.argv[1], f"rank-{hvd.rank()}"), "w") as file:
    file.write(f"{os.environ['HOROVOD_HOSTNAME']} {hvd.size()}")
hvd.shutdown()
"""


def horovodrun(folder: Path) -> tuple[int, str]:
    """Start two workers where ./discover says; exit code and output. Nothing of it is left afterwards."""
    (folder / "worker.py").write_text(WORKER)
    command = [str(Path(sys.executable).with_name("horovodrun")), "-np", "2", "--min-np", "2", "--max-np", "2"]
    command += ["--host-discovery-script", "./discover", "--elastic-timeout", "20"]
    command += [sys.executable, "-W", "ignore", "worker.py", str(folder)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers end when it does
        process.wait()
    return process.returncode, output


def script(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "ft_horovod.cli", "hosts", *arguments, "--script", "discover"]
    subprocess.run(command, cwd=folder, check=True, timeout=LIMIT_S)


@pytest.mark.system
@pytest.mark.timeout(150)
def test_horovodrun_starts_where_the_script_says(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1:1  # stands for a second host\nlocalhost slots=1\nlost.invalid:8\n")
    script(tmp_path, "--static", "hosts", "--exclude", "lost.invalid")
    code, output = horovodrun(tmp_path)
    assert code == 0, output
    told = {file.name: file.read_text() for file in tmp_path.glob("rank-*")}
    assert set(told) == {"rank-0", "rank-1"}
    assert sorted(told.values()) == ["127.0.0.1 2", "localhost 2"]


@pytest.mark.system
@pytest.mark.timeout(150)
def test_horovodrun_ends_and_says_why_when_there_never_was_an_answer(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("localhost:2\n127.0.0.1:two\n")
    script(tmp_path, "--static", "hosts")
    code, output = horovodrun(tmp_path)
    assert code != 0
    assert f"{tmp_path / 'hosts'}:2: expected slots as a number from 0 to 65535, found 'two'" in output
