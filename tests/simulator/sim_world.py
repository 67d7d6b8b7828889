"""What the simulator's tests share: small scenarios, and strategies for odd ones."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from simulator.costs.model import Commit, Costs
from simulator.experiments.single import Case
from simulator.failures.causes import Burst, Cause, Failures, Lemons
from simulator.failures.distributions import Duration, Spread
from simulator.policies.registry import names
from simulator.scenario import ClusterConfig, JobConfig, PolicyOptions, Scenario

HOUR = Duration(mean_s=3600.0)


def scenario(policy: str = "restart_disk", **changes: object) -> Scenario:
    """Eight nodes and a spare, a failure every two hours, ten hours of work."""
    base = Scenario(
        cluster=ClusterConfig(nodes=8, spares=1, nodes_per_rack=4),
        job=JobConfig(work_h=10),
        failures=Failures(causes=(Cause(name="crash", mtbf_h=16, repair=HOUR),)),
        commit=Commit(every_s=600, stall_s=5.0, write_s=20.0, copy_every_s=30, copy_stall_s=0.1),
        policy=policy,
        options=PolicyOptions(min_nodes=2),
    )
    return msgspec.structs.replace(base, **changes)


def case(policy: str = "restart_disk", **changes: object) -> Case:
    return Case(scenario(policy, **changes))


spreads = st.builds(
    Spread, family=st.sampled_from(["exponential", "weibull", "lognormal", "gamma", "fixed"]), shape=st.floats(0.4, 3)
)
repairs = st.none() | st.builds(
    Duration, mean_s=st.floats(1, 20_000), family=st.sampled_from(["exponential", "lognormal"])
)


@st.composite
def causes(draw: st.DrawFn) -> Cause:
    effect = draw(st.sampled_from(["kill", "hang", "slow", "false_alarm", "preempt", "partition", "corrupt"]))
    repair = draw(repairs)
    if effect in ("slow", "partition", "false_alarm") and repair is None:
        repair = HOUR
    return Cause(
        name=effect,
        effect=effect,
        per=draw(st.sampled_from(["node", "rack", "cluster"])),
        mtbf_h=draw(st.floats(1, 200)),
        spread=draw(spreads),
        repair=repair,
        host_lost=draw(st.booleans()),
        burst=draw(st.none() | st.builds(Burst, probability=st.floats(0, 1), others_mean=st.floats(1, 5))),
        factor=draw(st.floats(1.5, 10)),
        notice_s=draw(st.sampled_from([0.0, 60.0])),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any policy on a small cluster, with any mixture of causes, for a day of wall time or a few hours of work."""
    nodes = draw(st.integers(1, 24))
    work_h = draw(st.none() | st.floats(0.1, 12))
    options = PolicyOptions(
        min_nodes=draw(st.integers(1, nodes)),
        stages=draw(st.integers(1, min(4, nodes))),
        role=draw(st.sampled_from(["replica", "standby"])),
        replicas=draw(st.integers(1, 3)),
        placement=draw(st.sampled_from(["group", "ring"])),
        pipeline=draw(st.integers(2, 6)),
    )
    stall_s = draw(st.floats(0, 30))
    return Case(
        Scenario(
            cluster=ClusterConfig(
                nodes=nodes,
                spares=draw(st.integers(0, 3)),
                nodes_per_rack=draw(st.integers(1, 8)),
                provision_s=draw(st.none() | st.floats(10, 4000)),
            ),
            job=JobConfig(wall_h=24, work_h=work_h),
            failures=Failures(
                causes=tuple(draw(st.lists(causes(), min_size=1, max_size=3))),
                lemons=draw(st.none() | st.builds(Lemons, share=st.floats(0, 1), factor=st.floats(1, 20))),
            ),
            commit=Commit(
                every_s=draw(st.none() | st.floats(60, 7200)), stall_s=stall_s, write_s=draw(st.floats(0, 60)),
                copy_every_s=draw(st.floats(10, 600)), copy_stall_s=draw(st.floats(0, 1)),
            ),
            costs=Costs(
                detect_slow_s=draw(st.none() | st.floats(1, 1000)), step_s=draw(st.floats(0.1, 60)),
                redo_share=draw(st.floats(0, 1)), process_start_s=draw(st.floats(0, 60)),
            ),
            policy=draw(st.sampled_from(names())),
            options=options,
            seed=draw(st.integers(0, 1000)),
        )
    )  # fmt: skip
