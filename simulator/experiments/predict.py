"""What the simulator predicts for a recorded live run, failure by failure and as a whole.

The same faults at the same steps go through the toolkit's policy with a calibrated cost model. For each failure the
phases are those of the model; what it costs is what the step that was hit takes longer than a calm one:
within x step + detect + shrink + replan + restore + re-init + redo - step. Knows the model; fits nothing.
"""

from __future__ import annotations

import msgspec

from ft_horovod.core.schedule import At, Fault, FaultSchedule, Kind, Target
from simulator.costs.calibrate import PHASES, LiveCosts
from simulator.costs.quantity import value_of
from simulator.engine.outcome import Outcome
from simulator.experiments.single import Case, run_once
from simulator.live import LiveFailure, LiveRun
from simulator.scenario import ClusterConfig, JobConfig, PolicyOptions, Scenario
from simulator.units import NS_PER_S, S_PER_H


class Predicted(msgspec.Struct, frozen=True):
    """One failure: the model's phases and cost beside the measured ones, in seconds."""

    failure: LiveFailure
    phases_s: dict[str, float]
    total_s: float
    cost_s: float


class Prediction(msgspec.Struct, frozen=True):
    """A whole run, simulated with its own schedule, beside what was measured; seconds and shares.

    `recovery_s` is the sum over the failures; `kernel_s` what the kernel booked, which knows no step that a failure
    makes shorter than a calm one.
    """

    run: LiveRun
    failures: tuple[Predicted, ...]
    outcome: Outcome
    recovery_s: float
    kernel_s: float
    wall_s: float
    goodput: float

    @property
    def error(self) -> float:
        """Predicted over measured time in recoveries, less 1; 0 when both are nothing."""
        return self.recovery_s / self.run.recovery_s - 1 if self.run.recovery_s else 0.0


def predict(run: LiveRun, costs: LiveCosts) -> Prediction:
    """Simulate the run with `costs`; its calm step is its own, since that is not what failures decide."""
    step_s = run.typical_step_s
    failures = tuple(_one(failure, costs, step_s) for failure in run.failures)
    outcome = run_once(_case(run, costs, step_s), 0, record=len(failures))
    accounts = outcome.accounts_ns
    kernel_s = (accounts["detection"] + accounts["recovery"] + accounts["redone"]) / NS_PER_S
    recovery_s = sum(one.cost_s for one in failures)
    useful_s = accounts["useful"] / NS_PER_S
    wall_s = outcome.wall_ns / NS_PER_S - kernel_s + recovery_s + value_of(costs.between_steps_share) * useful_s
    return Prediction(run, failures, outcome, recovery_s, kernel_s, wall_s, useful_s / wall_s)


def _one(failure: LiveFailure, costs: LiveCosts, step_s: float) -> Predicted:
    detect = costs.detect_hang_s if failure.kind == "hang" else costs.detect_kill_s
    phases = {name: value_of(getattr(costs, f"{name}_s")) for name in PHASES if name not in ("detect", "redo")}
    phases["restore"] = phases["restore"] if failure.filled else 0.0
    phases = {"detect": value_of(detect), **phases, "redo": value_of(costs.redo_share) * step_s}
    total_s = sum(phases.values())
    return Predicted(failure, phases, total_s, max(0.0, total_s - (1 - failure.within) * step_s))


def _case(run: LiveRun, costs: LiveCosts, step_s: float) -> Case:
    """The run as a scenario, and its faults as a schedule by step."""
    nodes = run.workers + run.spares
    scenario = Scenario(
        cluster=ClusterConfig(nodes=run.workers, spares=run.spares, gpus_per_node=1),
        job=JobConfig(work_h=run.steps * step_s / S_PER_H),
        costs=msgspec.structs.replace(costs.as_costs(), step_s=step_s, refill_s=0.0),
        policy="toolkit",
        options=PolicyOptions(min_nodes=run.min_workers, host_memory=False),
    )
    faults = []
    for number, failure in enumerate(run.failures):
        kind: Kind = "hang" if failure.kind == "hang" else "kill"
        # Who is struck does not matter to the cost, only that it is somebody at work.
        at = At(step=failure.step, within=min(failure.within, 0.999))
        faults.append(Fault(kind=kind, at=at, target=Target(worker=number % nodes)))
    return Case(scenario, FaultSchedule(version=1, faults=tuple(faults)), run.name)
