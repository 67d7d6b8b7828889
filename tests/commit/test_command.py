"""`ft-horovod commits RUN`: every commit of a run folder, and what is wrong with which file."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from commit_world import Team
from rich.console import Console

from ft_horovod.cli import commands
from ft_horovod.commit.inventory import CommitRow, cut_in_words, on_disk
from ft_horovod.core.errors import ConfigError
from ft_horovod.status.commits_view import show


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Commits of steps 3 and 6, and one of step 9 that misses a shard."""
    (tmp_path / "config.yaml").write_text("epochs: 1\n")
    team = Team(tmp_path / "commits", (2, 1), patience_s=0.1)
    team.commit(3)
    team.commit(6)
    team.commit(9, but=team.places[1:])
    return tmp_path


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(commands, ["commits", *arguments])
    assert result.exception is None, result.output
    return result


def test_plain_lines(run: Path) -> None:
    lines = call(str(run)).output.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["step 9", "step 6", "step 3"]
    assert lines[0].endswith("/manifest.json: missing: not finished")
    assert "disk, -, " in lines[0]
    assert "disk, 2 x 1-2, " in lines[1]
    assert lines[1].endswith(": whole")
    assert "commits/step-000000006-" in lines[1]


def test_flipped_bytes_are_found_when_contents_are_read(run: Path) -> None:
    file = next(run.glob("commits/step-000000006-*/stage-1*"))
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    assert call(str(run)).output.splitlines()[1].endswith(": whole")
    checked = call(str(run), "--check").output.splitlines()
    assert checked[1].endswith(f"{file.parent.name}/{file.name}: damaged: its checksum does not fit")
    assert checked[2].endswith(": whole")


def test_json_has_all_of_it(run: Path) -> None:
    rows = msgspec.json.decode(call(str(run), "--json", "--check").output, type=list[CommitRow])
    assert [(row.step, row.tier, row.shards, row.problem is None) for row in rows] == [
        (9, "disk", (), False),
        (6, "disk", (2, 1), True),
        (3, "disk", (2, 1), True),
    ]
    for row in rows:
        assert row.size_bytes == sum(path.stat().st_size for path in (run / row.holder).iterdir())
        assert 0 <= row.age_s < 60


def test_a_table_on_a_terminal(run: Path) -> None:
    console = Console(force_terminal=True, width=100, record=True, file=Path(os.devnull).open("w"))  # noqa: SIM115
    show(on_disk(run / "commits", 1e10, contents=False), console)
    console.file.close()
    text = console.export_text()
    assert "stages x shards" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "whole" in text


def test_what_was_set_aside_says_so(run: Path) -> None:
    path = next(run.glob("commits/step-000000006-*"))
    path.rename(path.with_name(f"damaged-{path.name}"))
    assert "set aside: it could not be used when the run was resumed" in call(str(run)).output


def test_no_commits_yet(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 1\n")
    assert call(str(tmp_path)).output == "no commits\n"
    assert call(str(tmp_path), "--json").output == "[]\n"


@pytest.mark.parametrize("name", [".", "nothing", "file"])
def test_no_run_folder_is_one_line_and_exit_2(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(commands, ["commits", str(tmp_path / name)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2
    assert str(result.exception) == f"{tmp_path / name}: no run: there is no config.yaml in this folder"


def test_commits_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("epochs: 1\n")
    (tmp_path / "commits").write_text("x")
    result = CliRunner().invoke(commands, ["commits", str(tmp_path)])
    assert str(result.exception) == f"{tmp_path / 'commits'}: cannot be read: Not a directory"


@pytest.mark.parametrize(
    ("shards", "words"), [((), "-"), ((4,), "1 x 4"), ((2, 2, 2), "3 x 2"), ((1, 3, 2), "3 x 1-3")]
)
def test_stages_and_shards(shards: tuple[int, ...], words: str) -> None:
    assert cut_in_words(shards) == words
