"""Live runs: read, calibrated, predicted, replayed and reported."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from live_world import PHASES_S, STEP_S, write_run

from ft_horovod.cli import commands
from ft_horovod.core.errors import ConfigError
from simulator.costs.calibrate import calibrated
from simulator.costs.quantity import value_of
from simulator.experiments.predict import predict
from simulator.live import read_live

TAUGHT = [(8, 0.5), (20, 0.5)]


def test_a_run_folder_is_read(tmp_path: Path) -> None:
    run = read_live(write_run(tmp_path / "run", TAUGHT))
    assert (run.workers, run.spares, run.steps, len(run.failures)) == (4, 1, 40, 2)
    assert run.typical_step_s == STEP_S
    assert [(one.step, one.within, one.filled) for one in run.failures] == [(8, 0.5, True), (20, 0.5, False)]
    assert run.failures[0].phases_s == pytest.approx(PHASES_S)
    assert run.recovery_s == pytest.approx(sum(one.cost_s for one in run.failures))


def test_calibration_finds_what_the_run_was_made_with(tmp_path: Path) -> None:
    costs = calibrated([read_live(write_run(tmp_path / "run", TAUGHT))])
    for name in ("shrink", "replan", "restore", "reinit"):
        assert value_of(getattr(costs, f"{name}_s")) == pytest.approx(PHASES_S[name])
    assert value_of(costs.detect_kill_s) == pytest.approx(PHASES_S["detect"])
    assert value_of(costs.redo_share) == pytest.approx(PHASES_S["redo"] / STEP_S)
    assert costs.step_s.source == "measured"
    assert "2 failures" in costs.shrink_s.note


def test_another_schedule_is_predicted(tmp_path: Path) -> None:
    costs = calibrated([read_live(write_run(tmp_path / "taught", TAUGHT))])
    run = read_live(write_run(tmp_path / "unseen", [(5, 0.9), (18, 0.4), (30, 0.7)]))
    prediction = predict(run, costs)
    for one in prediction.failures:
        assert one.phases_s == pytest.approx(one.failure.phases_s)
        assert one.cost_s == pytest.approx(one.failure.cost_s)
    assert prediction.outcome.interruptions == 3
    assert abs(prediction.error) < 0.01
    assert prediction.kernel_s == pytest.approx(run.recovery_s, rel=0.1)
    assert prediction.wall_s == pytest.approx(run.wall_s, rel=0.02)


def test_slower_recoveries_are_noticed(tmp_path: Path) -> None:
    costs = calibrated([read_live(write_run(tmp_path / "taught", TAUGHT))])
    slow = predict(read_live(write_run(tmp_path / "slow", TAUGHT, scale=10)), costs)
    assert slow.error < -0.5


def test_runs_without_failures_or_training_are_refused(tmp_path: Path) -> None:
    calm = write_run(tmp_path / "calm", [])
    with pytest.raises(ConfigError, match="nothing failed in these runs"):
        calibrated([read_live(calm)])
    (calm / "trace.jsonl").write_bytes(b"")
    with pytest.raises(ConfigError, match="is empty: there is no event in it"):
        read_live(calm)


def test_replay_and_calibrate_on_the_command_line(tmp_path: Path) -> None:
    run, costs = write_run(tmp_path / "run", TAUGHT), tmp_path / "costs.yaml"
    assert CliRunner().invoke(commands, ["calibrate", str(run), "--out", str(costs)]).exit_code == 0
    shown = CliRunner().invoke(commands, ["replay", str(run), "--costs", str(costs)])
    assert shown.exit_code == 0, shown.output
    assert "recovery overhead" in shown.output
    assert "calibrated on this very run" not in shown.output
    assert "calibrated on this very run" in CliRunner().invoke(commands, ["replay", str(run)]).output


def test_a_report_is_one_page_that_needs_no_other_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TAUGHT)
    done = CliRunner().invoke(commands, ["report", str(run), "--replicas", "2"])
    assert done.exit_code == 0, done.output
    page = (run / "report" / "report.html").read_text()
    assert "Recoveries, phase by phase" in page
    assert page.count("data:image/png;base64,") == len(list((run / "report").glob("*.png"))) == 5
    assert "http" not in page
