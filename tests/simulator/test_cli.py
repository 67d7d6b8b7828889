"""The commands: what they print, the same bytes for the same seed, and one clear line for bad input."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ft_horovod.core.errors import ConfigError
from simulator.cli import COMMANDS

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "sim"
GOOD = """cluster: {nodes: 8, spares: 1, price_per_gpu_h: 2.0}
job: {work_h: 5}
failures:
  causes:
    - {name: crash, mtbf_h: 16, repair: {mean_s: 3600}}
commit: {every_s: 600, stall_s: 5}
policy: restart_disk
"""
CALM = GOOD.partition("failures:")[0]
commands = click.Group(commands={command.name or "": command for command in COMMANDS})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(commands, [str(argument) for argument in arguments])


def config(folder: Path, text: str = GOOD) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_simulate_says_what_is_lost_and_why(tmp_path: Path) -> None:
    done = run("simulate", config(tmp_path), "--replicas", 4)
    assert done.exit_code == 0, done.output
    for word in ("goodput", "redone work", "cold restart", "crash", "cost", "4 runs"):
        assert word in done.output


def test_the_same_seed_gives_the_same_file_on_any_number_of_cores(tmp_path: Path) -> None:
    path = config(tmp_path)
    for name, seed, cores in (("a", 7, 1), ("b", 7, 2), ("c", 8, 1)):
        out = tmp_path / f"{name}.json"
        assert run("simulate", path, "--seed", seed, "--cores", cores, "--replicas", 12, "--json", out).exit_code == 0
    read = {name: (tmp_path / f"{name}.json").read_bytes() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]


def test_compare_shows_every_policy(tmp_path: Path) -> None:
    done = run("simulate", config(tmp_path), "--compare", "--replicas", 2)
    assert done.exit_code == 0
    for word in ("toolkit", "torchrun", "elastic_horovod", "parameter_server", "redundant", "reconfigure"):
        assert word in done.output


def test_plan_advises_and_writes_its_advice(tmp_path: Path) -> None:
    out = tmp_path / "advice.yaml"
    done = run("plan", config(tmp_path), "--replicas", 2, "--out", out)
    assert done.exit_code == 0, done.output
    assert "choose" in done.output
    assert "policy: toolkit" in out.read_text()
    assert run("simulate", out, "--replicas", 2).exit_code == 0


def test_schedules_are_drawn_converted_and_shown(tmp_path: Path) -> None:
    drawn, taken, rows = tmp_path / "drawn.yaml", tmp_path / "taken.yaml", tmp_path / "rows.csv"
    rows.write_text("node,start_s,end_s\na,10,40\nb,20,30\n")
    assert run("schedule", "generate", config(tmp_path), "--hours", 100, "--out", drawn).exit_code == 0
    assert run("schedule", "convert", rows, "--out", taken).exit_code == 0
    for path in (drawn, taken, rows):
        assert "losses" in run("schedule", "show", path).output


@pytest.mark.parametrize("name", ["llama3-16k.yaml", "small-cluster.yaml"])
def test_shipped_configs_run(name: str) -> None:
    assert run("simulate", CONFIGS / name, "--replicas", 2).exit_code == 0


BAD = [
    (GOOD.replace("nodes: 8", "nodes: 0"), "c.yaml:1: cluster.nodes: expected int >= 1"),
    (GOOD.replace("nodes: 8", "nods: 8"), "c.yaml:1: cluster.nods: unknown key"),
    (GOOD.replace("job: {work_h: 5}", "job: {}"), "c.yaml:2: job: one of wall_h and work_h is needed"),
    (GOOD.replace("mtbf_h: 16", "mtbf_h: -1"), "c.yaml:5: failures.causes[0].mtbf_h"),
    (
        GOOD.replace("mtbf_h: 16", "mtbf_h: 16, per_1000_node_days: 3"),
        "c.yaml:5: failures.causes[0]: cause crash: exactly one",
    ),
    (GOOD.replace("restart_disk", "best"), "c.yaml:7: policy: there is no policy 'best'"),
    (GOOD.replace("mtbf_h: 16", "mtbf_h: 0.001"), "c.yaml:3: restart_disk cannot progress: failures undo the work"),
    (
        GOOD.replace("stall_s: 5", "stall_s: 5, write_s: 900"),
        "c.yaml:1: commit.write_s, 900 s, is longer than the 600 s",
    ),
    (CALM + "failures: {}\n", "c.yaml:3: nothing fails"),
    (CALM + "failures: {schedule: no.yaml}\n", "no.yaml: cannot be read: No such file"),
    ("cluster: [\n", "c.yaml:2: not valid YAML"),
    ("", "c.yaml: cluster: required key is missing"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_input_is_one_line_with_file_and_row(tmp_path: Path, text: str, message: str) -> None:
    done = run("simulate", config(tmp_path, text), "--replicas", 2)
    assert isinstance(done.exception, ConfigError), done.output
    assert done.exception.exit_code == 2
    assert message in str(done.exception).replace(f"{tmp_path}/", "")
    assert "\n" not in str(done.exception)


def test_a_worker_that_the_cluster_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("version: 1\nfaults:\n- {kind: kill, at: {time_s: 3}, target: {worker: 9}}\n")
    done = run("simulate", config(tmp_path, CALM + "failures: {schedule: f.yaml}\n"))
    assert "f.yaml: faults[0].target.worker: there is no worker 9" in str(done.exception)


def test_a_report_of_what_is_neither_run_nor_simulation(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    for path, message in (
        (tmp_path / "x.json", "no result of"),
        (tmp_path, "cannot be read"),
        (tmp_path / "y", "cannot be"),
    ):
        assert message in str(run("report", path).exception)


def test_calibrating_a_folder_without_a_run(tmp_path: Path) -> None:
    assert "trace.jsonl: cannot be read" in str(run("calibrate", tmp_path).exception)
