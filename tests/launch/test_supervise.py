"""How a launcher that ends before it started anything is taken."""

import time
from pathlib import Path

import pytest

from ft_horovod.core.config import RunConfig
from ft_horovod.core.errors import EXIT_BUG
from ft_horovod.runfolder import RunFolder
from launch import supervise
from launch.supervise import Job

LISTENER = "The PMIx server's listener thread failed to start. We cannot"


def run_with(says: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> tuple[int, int]:
    """Exit code of a job whose launcher says `says` and ends, and how often it was started."""
    (folder / "mpirun").write_text(f'echo "{says}"\nexit 1\n')
    monkeypatch.setattr(supervise, "mpirun_command", lambda *_: ["sh", str(folder / "mpirun")])
    run_folder = RunFolder(folder / "run")
    run_folder.create()
    job = Job(RunConfig(), run_folder)
    job.start("test")
    give_up = time.monotonic() + 30
    while not job.over() and time.monotonic() < give_up:
        time.sleep(0.01)
    code = job.end(interrupted=False)
    return code, run_folder.launcher_log.read_text().count("sh /")


@pytest.mark.parametrize(("says", "starts"), [(LISTENER, 3), ("There are not enough slots", 1)])
def test_only_trouble_that_passes_is_tried_again(
    says: str, starts: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_with(says, monkeypatch, tmp_path) == (EXIT_BUG, starts)
