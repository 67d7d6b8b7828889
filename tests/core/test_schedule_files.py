"""Fault schedules as files: what one may say, and the words in which a wrong one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from schedule_world import read, schedules

from ft_horovod.core import schedule as module
from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule, Kind, resolve

KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
ONE = "version: 1\nfaults:\n- "


@given(schedules)
def test_what_is_written_is_read_back(schedule: FaultSchedule) -> None:
    assert read(encode_yaml(schedule)) == schedule


def test_the_example_of_the_module_is_right() -> None:
    assert module.__doc__ is not None
    example = module.__doc__.split("\n\n")[1]
    schedule = read("\n".join(line.removeprefix("    ") for line in example.splitlines()))
    assert [entry.kind for entry in schedule.faults] == ["kill", "hang", "kill"]
    assert len(resolve(schedule, 12)) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written(kind: Kind) -> None:
    target = "" if kind == "join" else ", target: {host: node1}"
    assert read(f"{ONE}{{kind: {kind}, at: {{time_s: 1}}{target}}}").faults[0].kind == kind


KNOWN = "known here: "
DISTRIBUTIONS = "exponential, fixed, weibull"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "s.yaml: version: required key is missing"),
        ("seed: 1", "s.yaml:1: version: required key is missing"),
        ("version: 2", "s.yaml:1: version: invalid enum value 2; expected 1"),
        ("version: 1\nseed: -1", "s.yaml:2: seed: expected int >= 0"),
        ("version: 1\nfault: []", f"s.yaml:2: fault: unknown key; {KNOWN}version, seed, faults"),
        ("version: 1\nfaults: {}", "s.yaml:2: faults: expected list, got mapping"),
        ("version: 1\nfaults:\n", "s.yaml:2: faults: expected list, got null"),
        (ONE + "kill", "s.yaml:3: faults[0]: expected mapping, got str"),
        (ONE + "{at: {step: 1}}", "s.yaml:3: faults[0].kind: required key is missing"),
        (
            ONE + "{kind: die, at: {step: 1}}",
            f"s.yaml:3: faults[0].kind: invalid enum value 'die'; expected one of {', '.join(sorted(KINDS))}",
        ),
        (ONE + "{kind: kill}", "s.yaml:3: faults[0].at: required key is missing"),
        (ONE + "{kind: kill, at: {step: 1}}", "s.yaml:3: faults[0]: kill needs a target"),
        (ONE + "{kind: join, at: {step: 1}, target: {worker: 0}}", "s.yaml:3: faults[0]: join has no target"),
        (ONE + "{kind: kill, at: 3, target: {worker: 0}}", "s.yaml:3: faults[0].at: expected mapping, got int"),
        (ONE + "{kind: join, at: {}}", "s.yaml:3: faults[0].at: exactly one of step, time_s, every"),
        (ONE + "{kind: join, at: {step: 1, time_s: 1}}", "s.yaml:3: faults[0].at: exactly one of step, time_s, every"),
        (ONE + "{kind: join, at: {time_s: 1, within: 0.5}}", "s.yaml:3: faults[0].at: within goes with step"),
        (ONE + "{kind: join, at: {step: 1, within: 1.1}}", "s.yaml:3: faults[0].at.within: expected float <= 1.0"),
        (ONE + "{kind: join, at: {step: -1}}", "s.yaml:3: faults[0].at.step: expected int >= 0"),
        (ONE + "{kind: join, at: {step: true}}", "s.yaml:3: faults[0].at.step: expected int | null, got bool"),
        (ONE + "{kind: join, at: {step: 1.0}}", "s.yaml:3: faults[0].at.step: expected int | null, got float"),
        (ONE + "{kind: join, at: {time_s: -1}}", "s.yaml:3: faults[0].at.time_s: expected float >= 0.0"),
        (
            ONE + "{kind: join, at: {time_s: .nan}}",
            "s.yaml:3: faults[0].at.time_s: expected a finite number of at most 64 bits",
        ),
        (
            ONE + "{kind: join, at: {every: {mtbf_s: .inf}}}",
            "s.yaml:3: faults[0].at.every.mtbf_s: expected a finite number of at most 64 bits",
        ),
        (ONE + "{kind: join, at: {every: {}}}", "s.yaml:3: faults[0].at.every.mtbf_s: required key is missing"),
        (ONE + "{kind: join, at: {every: {mtbf_s: 0}}}", "s.yaml:3: faults[0].at.every.mtbf_s: expected float > 0.0"),
        (
            ONE + "{kind: join, at: {every: {mtbf: 3}}}",
            f"s.yaml:3: faults[0].at.every.mtbf: unknown key; {KNOWN}mtbf_s, distribution, shape",
        ),
        (
            ONE + "{kind: join, at: {every: {mtbf_s: 1, distribution: normal}}}",
            "s.yaml:3: faults[0].at.every.distribution: invalid enum value 'normal'; expected one of " + DISTRIBUTIONS,
        ),
        (
            ONE + "{kind: join, at: {every: {mtbf_s: 1, shape: 0.001}}}",
            "s.yaml:3: faults[0].at.every.shape: expected float >= 0.1",
        ),
        (ONE + "{kind: join, at: {step: 1}, count: 2}", "s.yaml:3: faults[0]: count goes with at.every"),
        (ONE + "{kind: join, at: {step: 1}, count: 0}", "s.yaml:3: faults[0].count: expected int >= 1"),
        (ONE + "{kind: join, at: {step: 1}, count: 1000000000}", "s.yaml:3: faults[0].count: expected int <= 100000"),
        (
            ONE + "kind: kill\n  at: {step: 1}\n  target: {}",
            "s.yaml:5: faults[0].target: exactly one of worker, role, host, rack, random: true",
        ),
        (
            ONE + "kind: kill\n  at: {step: 1}\n  target: {worker: 1, random: yes}",
            "s.yaml:5: faults[0].target: exactly one of worker, role, host, rack, random: true",
        ),
        (
            ONE + "kind: kill\n  at: {step: 1}\n  target: {random: no}",
            "s.yaml:5: faults[0].target: exactly one of worker, role, host, rack, random: true",
        ),
        (
            ONE + "kind: kill\n  at: {step: 1}\n  target: {worker: 1, stage: 0}",
            "s.yaml:5: faults[0].target: stage goes with role",
        ),
        (
            ONE + "kind: kill\n  at: {step: 1}\n  target:\n    role: boss",
            "s.yaml:6: faults[0].target.role: invalid enum value 'boss'; expected one of backup, leader, spare",
        ),
        (
            ONE + "kind: slow\n  at: {step: 1}\n  target: {worker: 0}\n  factor: 1",
            "s.yaml:6: faults[0].factor: expected float > 1.0",
        ),
        (
            ONE + "kind: hang\n  at: {step: 1}\n  target: {worker: 0}\n  duration_s: 0",
            "s.yaml:6: faults[0].duration_s: expected float > 0.0",
        ),
    ],
)
def test_bad_files_in_exactly_these_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2
