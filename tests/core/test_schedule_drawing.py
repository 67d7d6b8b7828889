"""What is drawn from a fault schedule: the same from the same file, nobody twice, the right gaps."""

from __future__ import annotations

import math
import random
import statistics

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from schedule_world import fault, plan, read, schedules

from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import PERMANENT, Every, Fault, FaultSchedule, draw_gap_s, resolve


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            fault("host_loss", at={"step": 1}, target={"host": "a"}),
            "faults[1].kind: host_loss is for simulations; a live run knows hang, join, kill, leave, slow",
        ),
        (
            fault(at={"step": 1}, target={"worker": 6}),
            "faults[1].target.worker: there is no worker 6; workers and spares are 0 to 5",
        ),
        (
            fault(at={"step": 1}, target={"role": "leader", "stage": 2}),
            "faults[1].target.stage: there is no stage 2; stages are 0 to 1",
        ),
        (
            fault(at={"step": 1}, target={"host": "a"}),
            "faults[1].target: a live run strikes workers; host and rack are for simulations",
        ),
        (
            fault(at={"step": 1}, target={"rack": "a"}),
            "faults[1].target: a live run strikes workers; host and rack are for simulations",
        ),
        (fault(at={"step": 20}, target={"worker": 0}), "faults[1].at.step: the run has only steps 0 to 19"),
    ],
)
def test_what_the_run_does_not_have_is_refused(entry: Fault, message: str) -> None:
    good = fault(at={"step": 19}, target={"worker": 5})
    with pytest.raises(ConfigError) as caught:
        plan(good, entry, workers=6, stages=2, steps=20)
    assert str(caught.value) == f"s.yaml: {message}"


def test_without_a_number_of_steps_any_step_will_do() -> None:
    assert plan(fault(at={"step": 10**9}, target={"worker": 0}))[0].step == 10**9


@given(schedules, st.integers(10, 14))
def test_the_same_file_always_means_the_same_faults(schedule: FaultSchedule, workers: int) -> None:
    planned = resolve(schedule, workers, stages=5)
    random.seed(len(planned))  # what others draw does not matter
    assert resolve(schedule, workers, stages=5) == planned
    assert resolve(read(encode_yaml(schedule)), workers, stages=5) == planned


@given(schedules, st.integers(10, 14))
def test_everything_is_drawn(schedule: FaultSchedule, workers: int) -> None:
    for one in resolve(schedule, workers, stages=5):
        assert (one.step is None) != (one.time_s is None)
        assert 0 <= one.within <= 1
        assert one.time_s is None or (one.time_s >= 0 and math.isfinite(one.time_s))
        assert (one.worker is None) == (one.role is not None or one.kind == "join")
        assert one.worker is None or 0 <= one.worker < workers


@given(schedules, st.integers(10, 14))
def test_faults_come_in_order_steps_first(schedule: FaultSchedule, workers: int) -> None:
    planned = resolve(schedule, workers, stages=5)
    order = [(one.time_s is not None, one.step or 0, one.within, one.time_s or 0) for one in planned]
    assert order == sorted(order)
    numbers = [one.number for one in planned]
    assert numbers == sorted(set(numbers))


@given(schedules, st.integers(10, 14))
def test_fixed_parts_are_taken_over(schedule: FaultSchedule, workers: int) -> None:
    planned = resolve(schedule, workers, stages=5)
    for entry in schedule.faults:
        if entry.target and entry.target.random:
            continue
        matching = [
            one
            for one in planned
            if (one.kind, one.duration_s, one.factor, one.notice_s)
            == (entry.kind, entry.duration_s, entry.factor, entry.notice_s)
            and (one.worker, one.role, one.stage)
            == ((entry.target.worker, entry.target.role, entry.target.stage) if entry.target else (None, None, None))
            and (entry.at.step is None or one.step == entry.at.step)
            and (entry.at.within is None or one.within == entry.at.within)
            and (entry.at.time_s is None or one.time_s == entry.at.time_s)
        ]
        assert len(matching) >= entry.count


@given(schedules, st.integers(10, 12))
def test_a_random_victim_is_one_that_still_stands(schedule: FaultSchedule, workers: int) -> None:
    assume(all(entry.target is None or entry.target.role is None for entry in schedule.faults))
    only_random = msgspec.structs.replace(
        schedule, faults=tuple(entry for entry in schedule.faults if entry.target and entry.target.random)
    )
    gone: set[int] = set()
    for one in resolve(only_random, workers):
        assert one.worker is not None
        assert one.worker not in gone
        if one.kind in PERMANENT or (one.kind == "hang" and one.duration_s is None):
            gone.add(one.worker)


def test_random_kills_end_when_nobody_is_left() -> None:
    planned = plan(fault(at={"every": {"mtbf_s": 5}}, target={"random": True}, count=50), workers=7)
    assert sorted(one.worker for one in planned if one.worker is not None) == list(range(7))


@pytest.mark.parametrize(
    ("first", "strikes_again"),
    [
        (fault("kill", at={"step": 0}, target={"worker": 0}), False),
        (fault("leave", at={"step": 0}, target={"worker": 0}), False),
        (fault("hang", at={"step": 0}, target={"worker": 0}), False),
        (fault("hang", at={"step": 0}, target={"worker": 0}, duration_s=1), True),
        (fault("slow", at={"step": 0}, target={"worker": 0}), True),
    ],
)
def test_who_was_taken_away_is_not_drawn(first: Fault, strikes_again: bool) -> None:
    slow = fault("slow", at={"every": {"mtbf_s": 1}}, target={"random": True}, count=100)
    victims = {one.worker for one in plan(first, slow, workers=3)[1:]}
    assert victims == ({0, 1, 2} if strikes_again else {1, 2})


def test_random_victims_are_drawn_evenly() -> None:
    planned = plan(fault("slow", at={"every": {"mtbf_s": 1}}, target={"random": True}, count=4000), workers=4)
    counts = [sum(one.worker == worker for one in planned) for worker in range(4)]
    assert sum(counts) == 4000
    assert all(900 < count < 1100 for count in counts)


def test_the_seed_matters_and_the_moment_in_a_step_is_drawn() -> None:
    entries = tuple(fault(at={"step": step}, target={"worker": 0}) for step in range(50))
    first, second = (resolve(FaultSchedule(version=1, seed=seed, faults=entries), 4) for seed in (1, 2))
    assert [one.within for one in first] != [one.within for one in second]
    assert len({one.within for one in first}) == 50
    assert 0.3 < statistics.mean(one.within for one in first) < 0.7


@pytest.mark.parametrize(
    "every",
    [
        Every(mtbf_s=20),
        Every(mtbf_s=20, distribution="fixed"),
        Every(mtbf_s=20, distribution="weibull"),
        Every(mtbf_s=20, distribution="weibull", shape=0.7),
        Every(mtbf_s=20, distribution="weibull", shape=3),
        Every(mtbf_s=3600, distribution="weibull", shape=100),
        Every(mtbf_s=1e-3),
    ],
)
def test_gaps_have_the_mean_they_are_asked_for(every: Every) -> None:
    rng = random.Random(11)
    gaps = [draw_gap_s(every, rng) for _ in range(20_000)]
    assert min(gaps) >= 0
    assert statistics.mean(gaps) == pytest.approx(every.mtbf_s, rel=0.03)


def test_gaps_have_the_spread_of_their_distribution() -> None:
    def spread(every: Every) -> float:
        rng = random.Random(5)
        gaps = [draw_gap_s(every, rng) for _ in range(20_000)]
        return statistics.stdev(gaps) / statistics.mean(gaps)

    assert spread(Every(mtbf_s=9, distribution="fixed")) == 0
    assert spread(Every(mtbf_s=9)) == pytest.approx(1, rel=0.05)
    k = 0.7
    bursty = math.sqrt(math.gamma(1 + 2 / k) / math.gamma(1 + 1 / k) ** 2 - 1)
    assert spread(Every(mtbf_s=9, distribution="weibull", shape=k)) == pytest.approx(bursty, rel=0.05)


def test_a_random_process_runs_on_from_zero() -> None:
    planned = plan(fault("join", at={"every": {"mtbf_s": 10, "distribution": "fixed"}}, count=4))
    assert [one.time_s for one in planned] == [10, 20, 30, 40]
