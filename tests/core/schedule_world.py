"""Random fault schedules, and short ways to read and plan one."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st

from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.schedule import LIVE_KINDS, At, Every, Fault, FaultSchedule, Kind, PlannedFault, Target, resolve

positive = st.floats(1e-6, 1e9)
everies = st.builds(
    Every, mtbf_s=positive, distribution=st.sampled_from(["exponential", "weibull", "fixed"]), shape=st.floats(0.1, 100)
)
steps = st.builds(At, step=st.integers(0, 50), within=st.none() | st.floats(0, 1))
times = st.builds(At, time_s=st.floats(0, 1e9))
targets = (
    st.builds(Target, worker=st.integers(0, 9))
    | st.builds(
        Target,
        role=st.sampled_from(["leader", "backup", "spare"]),
        stage=st.none() | st.integers(min_value=0, max_value=4),
    )
    | st.builds(Target, random=st.just(True))
)
strikes = st.sampled_from(sorted(LIVE_KINDS - {"join"}))
faults = (
    st.builds(Fault, kind=strikes, at=steps | times, target=targets, duration_s=st.none() | positive)
    | st.builds(Fault, kind=strikes, at=everies.map(lambda e: At(every=e)), target=targets, count=st.integers(1, 6))
    | st.builds(Fault, kind=st.just("join"), at=steps | times)
)
schedules = st.builds(
    FaultSchedule, version=st.just(1), seed=st.integers(0, 2**40), faults=st.lists(faults, max_size=8).map(tuple)
)


def read(text: str) -> FaultSchedule:
    return decode_yaml(text, FaultSchedule, source="s.yaml")


def fault(kind: Kind = "kill", **parts: object) -> Fault:
    """One fault by the values a file would hold."""
    return msgspec.convert({"kind": kind, **parts}, Fault)


def plan(*entries: Fault, workers: int = 4, stages: int = 1, steps: int | None = None) -> tuple[PlannedFault, ...]:
    return resolve(
        FaultSchedule(version=1, seed=3, faults=entries), workers, stages=stages, steps=steps, source="s.yaml"
    )
