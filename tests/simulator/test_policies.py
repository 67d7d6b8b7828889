"""What each policy does about a loss, and that a user can add one."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim_world import case, scenario

from ft_horovod.core.errors import ConfigError
from ft_horovod.core.placement import Scheme, placed
from simulator.costs.model import Commit
from simulator.engine.fleet import Fleet
from simulator.experiments.single import Case, run_once
from simulator.failures.causes import Cause, Failures
from simulator.policies import registry
from simulator.policies.peer_replication import survives
from simulator.policies.policy import Hit, Policy, Recovery, Rollback, World
from simulator.policies.restart import RestartFromDisk
from simulator.scenario import ClusterConfig, JobConfig, PolicyOptions


def build(name: str, nodes: int = 8, spares: int = 0, **options: object) -> tuple[Policy, Fleet]:
    fleet = Fleet(nodes, spares)
    changed = msgspec.structs.replace(PolicyOptions(), **options)
    world = World(scenario(name, cluster=ClusterConfig(nodes=nodes, spares=spares), options=changed), fleet)
    return registry.find(name)(world), fleet


def lose(policy: Policy, fleet: Fleet, *nodes: int, gone: bool = True) -> Recovery:
    return policy.hit(Hit(fleet.lose(nodes), gone))


def test_restart_from_disk_waits_for_all_its_nodes() -> None:
    policy, fleet = build("restart_disk", spares=1)
    assert lose(policy, fleet, 3).rollback is Rollback.DISK
    assert len(fleet.active) == policy.needed == 8
    lose(policy, fleet, 8)
    assert len(fleet.active) < policy.needed


def test_host_memory_survives_a_process_and_not_a_host() -> None:
    policy, fleet = build("restart_memory")
    assert lose(policy, fleet, 1, gone=False).rollback is Rollback.COPY
    assert lose(policy, fleet, 2, gone=True).rollback is Rollback.DISK


def test_elastic_horovod_goes_back_to_memory_until_nobody_is_left() -> None:
    policy, fleet = build("elastic_horovod", nodes=2)
    assert lose(policy, fleet, 0).rollback is Rollback.COPY
    assert lose(policy, fleet, 1).rollback is Rollback.DISK


def test_the_toolkits_tiers() -> None:
    policy, fleet = build("toolkit", nodes=4, spares=1)
    assert lose(policy, fleet, 0).tier == "0 in place"
    assert lose(policy, fleet, 1).tier == "1 refill"
    assert policy.speed() == 3 / 4
    assert lose(policy, fleet, 2, 3, 4, gone=False).tier == "2 warm restart"
    policy, fleet = build("toolkit", nodes=4)
    assert lose(policy, fleet, 0, 1, 2, 3).tier == "3 cold restart"


def test_a_stage_that_nobody_holds_is_read_from_its_neighbours_memory() -> None:
    policy, fleet = build("toolkit", nodes=4, stages=4)
    assert lose(policy, fleet, 1).tier == "2 warm restart"
    policy, fleet = build("toolkit", nodes=4, stages=4, host_memory=False)
    assert lose(policy, fleet, 1).tier == "3 cold restart"


def test_stage_groups_lose_speed_with_their_smallest_group() -> None:
    policy, fleet = build("toolkit", nodes=8, stages=2)
    assert policy.speed() == 1
    assert lose(policy, fleet, 0).rollback is Rollback.STEP
    assert policy.speed() == 3 / 4
    standby, fleet = build("toolkit", nodes=8, stages=2, role="standby")
    lose(standby, fleet, 0)
    assert standby.speed() == 1


def test_peer_memory_is_of_use_until_all_holders_are_lost() -> None:
    policy, fleet = build("peer_replication", spares=4)
    assert lose(policy, fleet, 0).rollback is Rollback.COPY
    assert lose(policy, fleet, 1).rollback is Rollback.DISK
    policy, fleet = build("peer_replication", spares=4)
    lose(policy, fleet, 0)
    policy.running()
    assert lose(policy, fleet, 1).rollback is Rollback.COPY


@pytest.mark.parametrize("scheme", ["group", "ring"])
@given(st.integers(1, 30), st.integers(1, 5))
def test_a_state_is_gone_with_its_last_holder(scheme: Scheme, places: int, replicas: int) -> None:
    for place in range(places):
        held = placed(place, places, replicas, scheme)
        assert not survives(held, places, replicas, scheme)
        assert survives(held[1:], places, replicas, scheme) or scheme == "ring"


def test_bamboo_survives_a_node_and_not_two_neighbours() -> None:
    policy, fleet = build("redundant", pipeline=4)
    assert lose(policy, fleet, 1).rollback is Rollback.STEP
    assert policy.speed() == pytest.approx(0.8 * 0.75)
    assert lose(policy, fleet, 3).rollback is Rollback.STEP
    assert lose(policy, fleet, 2).rollback is Rollback.DISK


def test_oobleck_reconfigures_while_enough_are_left() -> None:
    policy, fleet = build("reconfigure", nodes=4, min_nodes=3)
    assert lose(policy, fleet, 1).rollback is Rollback.STEP
    assert lose(policy, fleet, 2).rollback is Rollback.DISK


def test_a_parameter_server_loses_keys_only_with_its_last_replica() -> None:
    policy, fleet = build("parameter_server", nodes=20)
    assert lose(policy, fleet, 15).rollback is Rollback.NOTHING
    assert lose(policy, fleet, 0).rollback is Rollback.STEP
    assert lose(policy, fleet, 1).rollback is Rollback.DISK


class Oracle(RestartFromDisk):
    """Loses nothing, ever."""

    def hit(self, hit: Hit) -> Recovery:
        self.fleet.fill()
        return Recovery("oracle", 0, Rollback.NOTHING)

    def left(self, nodes: Sequence[int]) -> Recovery:
        return self.hit(Hit(nodes))


def test_a_policy_of_ones_own() -> None:
    registry.register("oracle", Oracle)
    try:
        outcome = run_once(case("oracle", cluster=ClusterConfig(nodes=8, spares=8)), 0)
    finally:
        registry._POLICIES.pop("oracle")
    assert outcome.tiers["oracle"] == outcome.interruptions > 0
    assert outcome.accounts_ns["redone"] == outcome.accounts_ns["recovery"] == 0


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no policy 'best'; known: toolkit, restart_disk"):
        registry.find("best")


def one_fault(effect: str, **changes: object) -> Case:
    """One fault after exactly an hour of a two-hour run of 4 nodes."""
    values = {"name": effect, "effect": effect, "mtbf_h": 1.0, "per": "cluster", **changes}
    cause = msgspec.convert({**values, "spread": {"family": "fixed"}}, Cause)
    return case("toolkit", cluster=ClusterConfig(nodes=4), job=JobConfig(wall_h=1.9), commit=Commit(),
                failures=Failures(causes=(cause,)), options=PolicyOptions())  # fmt: skip


def test_a_hang_is_noticed_late_and_a_straggler_slows_everybody() -> None:
    hang = run_once(one_fault("hang", host_lost=False), 0)
    assert hang.accounts_ns["detection"] == 60 * 10**9
    slow = run_once(one_fault("slow", factor=2.0, repair={"mean_s": 1000, "family": "fixed"}), 0)
    assert slow.effective == pytest.approx(1 - 500 / (1.9 * 3600))
    assert slow.interruptions == 0


def test_a_corrupt_state_goes_back_to_disk_and_a_notice_costs_next_to_nothing() -> None:
    assert run_once(one_fault("corrupt", host_lost=False), 0).tiers == {"3 cold restart": 1}
    leave = one_fault("preempt", notice_s=60.0, per="node", mtbf_h=1.0)
    one = msgspec.structs.replace(leave.scenario.failures.causes[0], host_lost=False)
    assert one.notice_s > 5
