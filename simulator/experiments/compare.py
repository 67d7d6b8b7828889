"""Several policies under the same failures. Knows what differs between them: the name of the policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec

from ft_horovod.core.errors import ConfigError
from simulator.experiments.montecarlo import Cores, Study, study
from simulator.experiments.single import Case
from simulator.policies.registry import find

Told = Callable[[str, int, int], None]


def with_policy(case: Case, policy: str) -> Case:
    """The same case under another policy. Raises ConfigError when there is none of that name."""
    find(policy, source=case.source)
    return msgspec.structs.replace(case, scenario=msgspec.structs.replace(case.scenario, policy=policy))


def compare(
    case: Case,
    policies: Sequence[str],
    workers: Cores,
    *,
    runs: int | None = None,
    told: Told = lambda name, n, m: None,
) -> Iterator[Study]:
    """A study of each policy, in the order given."""
    for policy in policies:
        one = with_policy(case, policy)
        yield study(one, workers, runs=runs, told=partial(told, policy))


def must_progress(study: Study, source: str) -> None:
    """Raise ConfigError when no run of the study got anywhere."""
    if not study.stuck:
        return
    starved = study.endings.get("starved", 0) == study.runs
    why = "too few nodes are left, and none come back" if starved else "failures undo the work faster than it is done"
    raise ConfigError(f"{study.policy} cannot progress: {why}", source=source)
