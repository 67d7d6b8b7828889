"""Failure models: rates, shapes, reach, and what a schedule turns into. Seeds are fixed."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from scipy import stats

from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule
from simulator.failures.causes import Burst, Cause, Lemons
from simulator.failures.distributions import Duration, Spread, draw
from simulator.failures.presets import LLAMA3_UNPLANNED, llama3_causes
from simulator.failures.scheduled import joins_of, scheduled_strikes
from simulator.failures.stream import Rates, Site, Stream, Strike
from simulator.schedules.formats import infinitehbd

DAY_S = 86_400.0


def strikes(cause: Cause, nodes: int, days: float, lemons: Lemons | None = None, seed: int = 1) -> list[Strike]:
    stream = Stream(Rates((cause,), lemons), Site(nodes, 8), np.random.default_rng(seed), days * DAY_S)
    return list(stream)


@pytest.mark.parametrize("family", ["exponential", "weibull", "lognormal", "gamma", "fixed"])
@pytest.mark.parametrize("shape", [0.6, 1.0, 2.5])
def test_every_family_has_the_mean_it_is_given(family: str, shape: float) -> None:
    values = draw(Spread(family=family, shape=shape), 30.0, 200_000, np.random.default_rng(2))
    assert values.mean() == pytest.approx(30.0, rel=0.03)
    assert values.min() >= 0


@pytest.mark.parametrize("family", ["exponential", "weibull", "gamma", "lognormal"])
def test_the_rate_is_the_rate(family: str) -> None:
    cause = Cause(
        name="x", per_1000_node_days=6.5, spread=Spread(family=family, shape=1.0 if family != "lognormal" else 0.5)
    )
    days = 3000.0
    count = len(strikes(cause, 512, days))
    assert count == pytest.approx(6.5 * 512 * days / 1000, rel=0.05)


def test_memoryless_gaps_are_exponential_and_in_order() -> None:
    times = [strike.time_ns / 1e9 for strike in strikes(Cause(name="x", mtbf_h=100), 50, 500)]
    assert times == sorted(times)
    assert stats.kstest(np.diff(times), "expon", args=(0, 100 * 3600 / 50)).pvalue > 0.01


def test_lemons_fail_more_often() -> None:
    found = strikes(Cause(name="x", mtbf_h=1000), 200, 1000, Lemons(share=0.1, factor=10))
    counts = np.bincount([strike.nodes[0] for strike in found], minlength=200)
    worst = np.sort(counts)[-20:]
    assert worst.sum() / counts.sum() == pytest.approx(20 * 10 / (20 * 10 + 180), rel=0.1)


def test_a_rack_falls_as_one_and_the_cluster_as_a_whole() -> None:
    racks = strikes(Cause(name="x", per="rack", mtbf_h=100), 20, 100)
    assert {tuple(strike.nodes) for strike in racks} == {tuple(range(8)), tuple(range(8, 16)), tuple(range(16, 20))}
    assert all(
        list(strike.nodes) == list(range(20)) for strike in strikes(Cause(name="x", per="cluster", mtbf_h=9), 20, 9)
    )


def test_a_burst_takes_neighbours_of_the_same_rack() -> None:
    cause = Cause(name="x", mtbf_h=100, burst=Burst(probability=0.5, others_mean=2))
    found = strikes(cause, 64, 500)
    several = [strike for strike in found if len(strike.nodes) > 1]
    assert len(several) / len(found) == pytest.approx(0.5, abs=0.03)
    assert all(len({node // 8 for node in strike.nodes}) == 1 and len(set(strike.nodes)) == len(strike.nodes)
               for strike in several)  # fmt: skip
    assert np.mean([len(strike.nodes) - 1 for strike in several]) == pytest.approx(2, rel=0.1)


def test_repairs_take_as_long_as_they_are_said_to() -> None:
    repair = Duration(mean_s=500, family="lognormal", shape=0.7)
    found = strikes(Cause(name="x", mtbf_h=10, repair=repair), 50, 300)
    assert np.mean([strike.repair_ns for strike in found]) / 1e9 == pytest.approx(500, rel=0.03)


def test_the_preset_is_the_published_table() -> None:
    unplanned = [cause for cause in llama3_causes() if not cause.planned]
    per_run = sum(2048 * 54 * DAY_S / cause.mtbf_s(2048) for cause in unplanned)
    assert per_run == pytest.approx(LLAMA3_UNPLANNED)


def test_the_figures_of_infinitehbd() -> None:
    """Published: 4.20 faults per 1,000 node-days of 400 nodes, Weibull gaps of shape 0.624 and scale 11.3 h."""
    text = resources.files("simulator.data").joinpath("traces/infinitehbd/fault_trace.json").read_text()
    nodes, changes = infinitehbd(text, "trace")
    gaps_h = np.diff([change.time_s / 3600 for change in changes if not change.up])
    shape, _, scale_h = stats.weibull_min.fit(gaps_h[gaps_h > 0], floc=0)
    assert len(nodes) == 231
    assert text.count("fault_start") / (400 * 348 / 1000) == pytest.approx(4.20, abs=0.01)
    assert np.mean(gaps_h) == pytest.approx(14.2, rel=0.02)
    assert (shape, scale_h) == (pytest.approx(0.624, rel=0.15), pytest.approx(11.3, rel=0.25))


def plan(text: str, machines: int = 4) -> list[Strike]:
    schedule = decode_yaml("version: 1\nfaults:\n" + text, FaultSchedule, source="s.yaml")
    return scheduled_strikes(schedule, machines, step_s=2.0, source="s.yaml")


def test_a_schedule_becomes_strikes() -> None:
    found = plan(
        "- {kind: kill, at: {step: 3, within: 0.5}, target: {worker: 2}}\n"
        "- {kind: hang, at: {time_s: 1}, target: {worker: 1}}\n"
        "- {kind: slow, at: {time_s: 9}, target: {worker: 0}, duration_s: 5, factor: 3}\n"
    )
    assert [(strike.time_ns / 1e9, tuple(strike.nodes), strike.repair_ns) for strike in found] == [
        (1.0, (1,), 0), (7.0, (2,), 0), (9.0, (0,), 5_000_000_000),
    ]  # fmt: skip


def test_with_joins_nobody_comes_back_alone() -> None:
    found = plan("- {kind: kill, at: {time_s: 3}, target: {worker: 2}}\n- {kind: join, at: {time_s: 8}}\n")
    assert [(tuple(strike.nodes), strike.repair_ns) for strike in found] == [((2,), None), ((), None)]
    assert joins_of(found) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {kind: kill, at: {step: 3}, target: {worker: 4}}", "faults[0].target.worker: there is no worker 4"),
        ("- {kind: disk_full, at: {step: 3}, target: {worker: 0}}", "faults[0].kind: disk_full cannot be simulated"),
        ("- {kind: kill, at: {step: 3}, target: {host: a}}", "faults[0].target: simulated nodes have numbers"),
    ],
)
def test_what_cannot_be_simulated_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(text)
    assert str(caught.value).startswith(f"s.yaml: {message}")
