"""The table of Oobleck's artifact (SOSP 2023): two policies on five traces for two models.

How the artifact counts: training begins when the first rendezvous is over, 45 s and a restart into the trace; it ends
with the last removal, which is not carried out; throughput is samples that stood at the end over the time between.
Oobleck reconfigures in 2 s. Varuna is `restart_overlapped`: steps that end during its rendezvous count; a restart takes
what the table lists for the size that was left, less the commit that it includes; a commit is safe one commit's time
after its stall. Knows the artifact's inputs; its code is not used.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from ft_horovod.core.schedule import At, Fault, FaultSchedule, Target
from simulator.costs.model import Commit, Costs, Point, Throughput
from simulator.experiments.single import Case, run_once
from simulator.scenario import ClusterConfig, JobConfig, PolicyOptions, Scenario
from simulator.schedules.changes import checked
from simulator.schedules.formats import add_remove
from simulator.units import S_PER_H

_BOOT_S = 45.0
_NODES, _LEAST = 30, 15


class System(msgspec.Struct, frozen=True):
    """One policy's inputs, by number of nodes where a mapping."""

    throughput_samples_per_s: dict[int, float]
    reconfigure_s: float = 0.0
    restart_s: dict[int, float] = {}
    restart_default_s: float = 0.0
    checkpoint_s: float = 0.0
    checkpoint_every_steps: int | None = None


class Published(msgspec.Struct, frozen=True):
    """Average samples per second for each trace."""

    mtbf: tuple[str, ...]
    varuna: tuple[float, ...]
    oobleck: tuple[float, ...]


class Model(msgspec.Struct, frozen=True):
    """One model's inputs and results."""

    oobleck: System
    varuna: System
    published_average_samples_per_s: Published
    samples_per_step: int


def models() -> dict[str, Model]:
    """The shipped table by name of the model."""
    text = resources.files("simulator.data").joinpath("validation/oobleck_artifact.json").read_bytes()
    whole = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return {name: msgspec.json.decode(whole[name], type=Model) for name in ("BERT-large", "GPT-2")}


def average_samples_per_s(model: Model, policy: str, trace: str) -> float:
    """Simulate one cell of the table."""
    system = model.varuna if policy == "varuna" else model.oobleck
    case = _case(model, system, policy, _removals_s(trace))
    return run_once(case, 0).effective * system.throughput_samples_per_s[_NODES]


def _removals_s(trace: str) -> list[float]:
    name = f"traces/oobleck_sosp23/{trace}.csv"
    text = resources.files("simulator.data").joinpath(name).read_text()
    _, rows = add_remove(text, name)
    return [change.time_s for change in checked((), rows, name).changes if not change.up]


def _case(model: Model, system: System, policy: str, removals_s: list[float]) -> Case:
    varuna = policy == "varuna"
    begin_s = _BOOT_S + (system.restart_default_s - system.checkpoint_s if varuna else system.reconfigure_s)
    points = tuple(
        Point(nodes=nodes, samples_per_s=speed, restart_s=_restart_s(system, nodes) if varuna else None)
        for nodes, speed in sorted(system.throughput_samples_per_s.items())
    )
    scenario = Scenario(
        cluster=ClusterConfig(nodes=_NODES),
        job=JobConfig(wall_h=(removals_s[-1] - begin_s) / S_PER_H),
        commit=Commit(
            every_steps=system.checkpoint_every_steps, stall_s=system.checkpoint_s, write_s=system.checkpoint_s
        ),
        costs=Costs(
            step_s=model.samples_per_step / system.throughput_samples_per_s[_NODES],
            detect_kill_s=0.0,
            reconfigure_s=system.reconfigure_s,
            throughput=Throughput(model="table", points=points, source="published"),
        ),
        policy="restart_overlapped" if varuna else "reconfigure",
        options=PolicyOptions(min_nodes=_LEAST),
    )
    faults = tuple(
        Fault(kind="leave", at=At(time_s=time_s - begin_s), target=Target(worker=node), notice_s=0.0)
        for node, time_s in enumerate(removals_s[:-1])
    )
    return Case(scenario, FaultSchedule(version=1, faults=faults))


def _restart_s(system: System, nodes: int) -> float:
    """The restart that begins when `nodes` are left: listed for the size before, with one commit in it."""
    return system.restart_s.get(nodes + 1, system.restart_default_s) - system.checkpoint_s
