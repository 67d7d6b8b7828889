"""The cost model of live runs, fitted to their traces.

Each figure is a mean over what was measured, and says over how much. State is restored only where a
spare takes the place. Redoing a step is fitted as a share of the step:
from the recovery to the end of the step that was hit takes `redo_share` of a calm step, wherever in it the failure
struck, since survivors keep what they had computed. Knows phases; predicts nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from ft_horovod.core.config import Section
from ft_horovod.core.errors import ConfigError
from simulator.costs.model import Costs
from simulator.costs.quantity import Given, measured, value_of
from simulator.live import LiveFailure, LiveRun

PHASES = ("detect", "shrink", "replan", "restore", "reinit", "redo")


class LiveCosts(Section, frozen=True):
    """What `calibrate` writes. Seconds; shares are of a calm step."""

    step_s: Given
    detect_kill_s: Given
    detect_hang_s: Given
    shrink_s: Given
    replan_s: Given
    restore_s: Given
    reinit_s: Given
    redo_share: Given
    process_start_s: Given
    commit_stall_s: Given
    commit_write_s: Given
    between_steps_share: Given  # wall time outside steps and recoveries, over time in steps

    @property
    def repair_s(self) -> float:
        """From when a loss is known until training goes on."""
        return sum(value_of(part) for part in (self.shrink_s, self.replan_s, self.restore_s, self.reinit_s))

    def as_costs(self) -> Costs:
        """The same as the simulator's cost model, for the toolkit's policy."""
        return Costs(
            step_s=self.step_s,
            detect_kill_s=self.detect_kill_s,
            detect_hang_s=self.detect_hang_s,
            in_place_s=measured(self.repair_s, "shrink, replan, restore and re-init"),
            process_start_s=self.process_start_s,
            kept_share=measured(max(0.0, 1 - value_of(self.redo_share)), "1 - redo_share"),
        )


def calibrated(runs: Sequence[LiveRun]) -> LiveCosts:
    """The cost model of several runs. Raises ConfigError when no failure was recovered in any of them."""
    failures = [failure for run in runs for failure in run.failures]
    if not failures:
        raise ConfigError("nothing failed in these runs, so that there is nothing to fit", source="calibrate")
    kills = [failure for failure in failures if failure.kind != "hang"]
    hangs = [failure for failure in failures if failure.kind == "hang"]
    steps_s = [step_s for run in runs for some in run.steps_s.values() for step_s in some]
    typical_s = {run.name: run.typical_step_s for run in runs}
    shares = [failure.phases_s["redo"] / typical_s[run.name] for run in runs for failure in run.failures]
    detect_kill = _mean([failure.phases_s["detect"] for failure in kills or failures], "failures")
    between = [max(0.0, run.wall_s - run.useful_s - run.recovery_s) / run.useful_s for run in runs]
    return LiveCosts(
        step_s=measured(statistics.median(steps_s), f"median of {len(steps_s)} calm steps"),
        detect_kill_s=detect_kill,
        detect_hang_s=_mean([failure.phases_s["detect"] for failure in hangs], "hangs") if hangs else detect_kill,
        shrink_s=_phase(failures, "shrink"),
        replan_s=_phase(failures, "replan"),
        restore_s=_mean([failure.phases_s["restore"] for failure in failures if failure.filled], "spares that came in"),
        reinit_s=_phase(failures, "reinit"),
        redo_share=_mean(shares, "failures"),
        process_start_s=_mean([gap_s for run in runs for gap_s in run.rejoin_s], "newcomers"),
        commit_stall_s=_mean([stall_s for run in runs for stall_s in run.commit_stalls_s], "commits"),
        commit_write_s=_mean([write_s for run in runs for write_s in run.commit_writes_s], "commits"),
        between_steps_share=_mean(between, "runs"),
    )


def _phase(failures: Sequence[LiveFailure], name: str) -> Given:
    return _mean([failure.phases_s[name] for failure in failures], "failures")


def _mean(values: Sequence[float], what: str) -> Given:
    if not values:
        return measured(0.0, f"no {what}")
    return measured(
        round(statistics.fmean(values), 6), f"mean of {len(values)} {what}, {min(values):.4g} to {max(values):.4g}"
    )
