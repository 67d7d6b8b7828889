"""Bad input: one line that names file, key and line, exit 2, nothing started and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ft_horovod.cli", "train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=folder)


def assert_refused(folder: Path, expected: str, *arguments: str) -> None:
    before = sorted(folder.rglob("*"))
    done = train(folder, *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert expected in lines[0]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layout:\n  wokers: 4\n", "run.yaml:2: layout.wokers: unknown key"),
        ("layout:\n  workers: four\n", "run.yaml:2: layout.workers: expected int, got str"),
        ("layout:\n  workers: 0\n", "run.yaml:2: layout.workers: expected int >= 1"),
        ("epochs: 1\nlayout:\n  stages: 5\n  workers: 4\n", "layout.stages is 5, more than layout.workers, 4"),
        ("layout: {stages: 6, workers: 8}\n", "run.yaml:1: layout.stages: expected int <= 5"),
        (
            "layout: {stages: 3, workers: 8, backups: 1}\n",
            "layout.workers is 8, but 3 stages with these backups",
        ),
        ("layout: {stages: 3, backups: [1, 1]}\n", "layout.backups is for 2 stages, layout.stages is 3"),
        ("layout: {backups: 1}\n", "layout.backups goes with stages"),
        ("layout: {stages: 2}\ndata: {micro_batch: 7}\n", "data.micro_batch is 7, which does not divide"),
        ("layout: {role: boss}\n", "run.yaml:1: layout.role: "),
        ("layout: {workers: 2, min_workers: 3}\n", "layout.min_workers is 3, more than layout.workers, 2"),
        ("model:\n  name: resnet51\n", "run.yaml:2: model.name: "),
        ("data: {name: cifar10}\n", "data.name cifar10 needs data.root"),
        ("data: {name: cifar10, root: nowhere}\n", "nowhere"),
        ("schedule: nowhere.yaml\n", "nowhere.yaml: cannot be read: No such file or directory"),
        ("layout: [\n", "run.yaml:2: not valid YAML"),
    ],
)
def test_a_bad_config_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert_refused(tmp_path, expected, "run.yaml", "--out", "out")


def test_a_schedule_that_names_a_worker_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("version: 1\nfaults:\n  - {kind: kill, at: {step: 3}, target: {worker: 9}}\n")
    expected = "f.yaml:3: faults[0].target.worker: there is no worker 9; workers and spares are 0 to 4"
    assert_refused(tmp_path, expected, "--spares", "1", "--schedule", "f.yaml", "--out", "out")


def test_flags_that_do_not_fit(tmp_path: Path) -> None:
    expected = "layout.stages is 3, more than layout.workers, 2"
    assert_refused(tmp_path, expected, "--stages", "3", "--workers", "2", "--out", "out")
    expected = "layout.workers is 5, but 3 stages with these backups have 6 members"
    assert_refused(tmp_path, expected, "--stages", "3", "--backups", "1", "--workers", "5", "--out", "out")


def test_a_damaged_data_file(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (folder / name).write_bytes(b"\x80\x02}q\x00")
    assert_refused(tmp_path, "data_batch_1", "--data", "cifar10", "--data-root", "data", "--out", "out")


def test_a_run_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    assert_refused(tmp_path, "out: exists already and is not empty", "--out", "out")


def test_a_run_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert_refused(tmp_path, "file/out: cannot be written: Not a directory", "--out", "file/out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    assert_refused(tmp_path, "closed/out: cannot be written", "--out", "closed/out")


def test_a_missing_config(tmp_path: Path) -> None:
    assert_refused(tmp_path, "none.yaml: cannot be read: No such file or directory", "none.yaml", "--out", "out")


def test_flags_are_checked_like_the_file(tmp_path: Path) -> None:
    assert_refused(tmp_path, "command line: layout.workers: expected int >= 1", "--workers", "0", "--out", "out")


def test_resuming_a_folder_without_a_run(tmp_path: Path) -> None:
    assert_refused(tmp_path, "config.yaml: cannot be read", "--resume", "nothing")
