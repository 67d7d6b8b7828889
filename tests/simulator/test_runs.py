"""Whole runs: the ledger closes, the same seed gives the same bytes, and what cannot progress says so."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from sim_world import HOUR, case, cases, scenario

from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import At, Fault, FaultSchedule, Target
from simulator.costs.model import Commit
from simulator.experiments.compare import must_progress
from simulator.experiments.montecarlo import Cores, cores, study
from simulator.experiments.single import Case, run_once
from simulator.failures.causes import Cause, Failures
from simulator.policies.registry import names
from simulator.scenario import ClusterConfig, JobConfig, Precision
from simulator.units import NS_PER_S

odd = settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow], deadline=None)


@odd
@given(cases())
def test_the_ledger_closes_whatever_happens(case: Case) -> None:
    outcome = run_once(case, 0)
    assert sum(outcome.accounts_ns.values()) == outcome.wall_ns
    assert min(outcome.accounts_ns.values()) >= 0
    assert 0 <= outcome.work_ns <= outcome.accounts_ns["useful"] * (1 + 1e-9) + 1
    assert sum(outcome.tiers.values()) >= outcome.interruptions
    if outcome.ending == "finished":
        assert outcome.work_ns >= (case.scenario.job.work_h or 0) * 3600 * NS_PER_S - 2


@odd
@given(cases())
def test_the_same_seed_gives_the_same_bytes(case: Case) -> None:
    encode = msgspec.json.Encoder(order="deterministic").encode
    assert encode(run_once(case, 3, record=50)) == encode(run_once(case, 3, record=50))


def test_the_number_of_cores_changes_nothing() -> None:
    encode = msgspec.json.Encoder(order="deterministic").encode
    with cores(2) as two:
        assert encode(study(case("toolkit"), Cores(1))) == encode(study(case("toolkit"), two))


def test_another_number_is_another_run() -> None:
    assert run_once(case(), 1).wall_ns != run_once(case(), 2).wall_ns


def test_all_policies_see_the_same_failures() -> None:
    job = JobConfig(wall_h=50)
    calm = ClusterConfig(nodes=8, spares=8)
    struck = {name: run_once(case(name, job=job, cluster=calm), 0).interruptions for name in names()}
    assert len(set(struck.values())) == 1


def test_without_failures_nothing_is_lost() -> None:
    quiet = Failures(causes=(Cause(name="never", mtbf_h=1e12),))
    outcome = run_once(case(failures=quiet, commit=Commit(every_s=600, stall_s=5.0)), 0)
    assert outcome.ending == "finished"
    assert outcome.accounts_ns["useful"] == 36_000 * NS_PER_S
    assert outcome.accounts_ns["commit_stall"] == 60 * 5 * NS_PER_S
    assert outcome.wall_ns == 36_300 * NS_PER_S


@pytest.mark.parametrize("policy", ["restart_disk", "restart_memory", "torchrun", "peer_replication"])
def test_what_undoes_itself_ends_with_that_finding(policy: str) -> None:
    wild = Failures(causes=(Cause(name="storm", mtbf_h=0.02),))
    outcome = run_once(case(policy, failures=wild, commit=Commit(every_s=3600, stall_s=5.0, copy_every_s=3600)), 0)
    assert outcome.ending == "no_progress"


def test_nodes_that_never_come_back_end_the_run() -> None:
    gone = Failures(causes=(Cause(name="gone", mtbf_h=16, repair=HOUR),))
    starved = scenario(failures=gone, cluster=ClusterConfig(nodes=8))
    endless = msgspec.structs.replace(
        starved, failures=Failures(causes=(msgspec.structs.replace(gone.causes[0], repair=None, host_lost=True),))
    )
    assert run_once(Case(starved), 0).ending == "finished"
    assert run_once(Case(endless), 0).ending == "finished"


def test_the_interval_narrows_until_it_is_narrow_enough() -> None:
    with cores(1) as one:
        rough = study(case(precision=Precision(half_width=0.04, least=4, most=2000)), one)
        fine = study(case(precision=Precision(half_width=0.01, least=4, most=2000)), one)
    assert rough.runs < fine.runs < 2000
    assert fine.goodput.half_width <= 0.01


def test_running_out_of_nodes_after_some_work_is_no_error() -> None:
    leave = Fault(kind="leave", at=At(time_s=7200), target=Target(worker=3), notice_s=0.0)
    late = Fault(kind="leave", at=At(time_s=0), target=Target(worker=3), notice_s=0.0)
    quiet = Failures(causes=(Cause(name="never", mtbf_h=1e12),))
    few = scenario(cluster=ClusterConfig(nodes=4), failures=quiet)
    with cores(1) as one:
        some = study(Case(few, FaultSchedule(version=1, faults=(leave,))), one, runs=2)
        none = study(Case(few, FaultSchedule(version=1, faults=(late,))), one, runs=2)
    assert some.endings == none.endings == {"starved": 2}
    assert (some.stuck, none.stuck) == (False, True)
    with pytest.raises(ConfigError, match=r"c\.yaml: restart_disk cannot progress: too few nodes are left"):
        must_progress(none, "c.yaml")
    must_progress(some, "c.yaml")
