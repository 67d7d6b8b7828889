"""One call from beginning to end: ask the source, fall back on its last good answer, decide, remember.

Environment and clock are arguments. This module knows neither flags nor how an answer is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from ft_horovod.core.errors import ConfigError
from launch.discovery.cache import Memory, State
from launch.discovery.hosts import HostSlots, NoHosts
from launch.discovery.ledger import Decision, Ledger, Out, Policy, decide, prune
from launch.discovery.reading import Source, ask, name_in
from launch.discovery.sources import Environment

_REPEAT_S = 60.0  # the same trouble is told again after this long: horovodrun calls once a second


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, and how long an answer is good."""

    # horovodrun itself waits without end, and no worker can regroup meanwhile: it holds its lock.
    ask_s: Annotated[float, Meta(ge=0.1, le=60)] = 5.0
    refresh_s: Annotated[float, Meta(ge=0)] = 0.0  # a good answer younger than this is given without asking
    max_age_s: Annotated[float, Meta(ge=0)] = 3600.0  # an older one is of no use when the source fails


class Answer(msgspec.Struct, frozen=True):
    """The hosts to use now, and how that came about."""

    source: str
    hosts: tuple[HostSlots, ...]
    out: tuple[Out, ...]
    age_s: float  # since the source said so; 0 when it was asked now
    problem: str | None = None  # why the source could not be used
    notes: tuple[str, ...] = ()  # lines for the user that he has not just been told


class _Found(msgspec.Struct, frozen=True):
    """Hosts that the source named at a time, and what went wrong since."""

    hosts: tuple[HostSlots, ...]
    at_s: float
    problem: str | None = None


def find_hosts(
    source: Source,
    state: State | None,
    environment: Environment,
    clock: Callable[[], float],
    *,
    policy: Policy = Policy(),  # noqa: B008 - frozen
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Answer:
    """The hosts that `source` names, without those that failed or were excluded, in a stable order.

    Without `state` nothing is remembered. Raises ConfigError when the source fails and no good answer is left.
    """
    asked_s, name = clock(), name_in(source, environment)
    memory = state.memory(name) if state else None
    try:
        found = _found(source, memory, environment, asked_s, limits)
    except ConfigError as error:
        found = _fall_back(error, source, memory, asked_s, limits)
    if state is None:
        return _answer(name, found, decide(Ledger(), found.hosts, (), asked_s, policy), clock(), ())
    return _remembered(name, found, state, clock(), policy)


def _found(source: Source, memory: Memory | None, environment: Environment, now_s: float, limits: Limits) -> _Found:
    if memory is not None and abs(now_s - memory.found_s) < limits.refresh_s:
        return _Found(memory.found, memory.found_s)
    return _Found(ask(source, environment, limits.ask_s), now_s)


def _fall_back(error: ConfigError, source: Source, memory: Memory | None, now_s: float, limits: Limits) -> _Found:
    """The last good answer, if it is not too old. Raises the error, or one that says so."""
    if memory is None:
        if isinstance(error, NoHosts) and source.may_start_empty:
            return _Found((), now_s, f"{error}, yet")
        raise error
    age_s = abs(now_s - memory.found_s)  # a clock that was set back makes no answer younger
    if age_s > limits.max_age_s:
        problem = f"{error.problem}; its last good answer is {age_s:.0f} s old, more than {limits.max_age_s:g} s"
        raise ConfigError(problem, source=error.source, line=error.line) from error
    return _Found(memory.found, memory.found_s, str(error))


def _remembered(name: str, found: _Found, state: State, now_s: float, policy: Policy) -> Answer:
    """Decide and write down what has to be known next time; if it cannot be written, decide all the same."""
    try:
        with state.lock():
            memory = state.memory(name)
            found = _newer(found, memory, now_s)
            ledger = state.ledger()
            decision = decide(ledger, found.hosts, memory.given if memory else (), now_s, policy)
            notes, told, told_s = _notes(found, decision, state, memory, now_s)
            if (pruned := prune(ledger, now_s, policy)) is not ledger:
                state.keep_ledger(pruned)
            given = tuple(one.host for one in decision.hosts)
            if found.hosts:  # a cluster that is still starting has given no good answer
                state.keep_memory(Memory(name, found.hosts, found.at_s, given, told, told_s))
    except ConfigError as error:
        memory = state.memory(name)
        decision = decide(state.ledger(), found.hosts, memory.given if memory else (), now_s, policy)
        notes = (*_notes(found, decision, state, None, now_s)[0], f"{error}; nothing was remembered")
    return _answer(name, found, decision, now_s, notes)


def _newer(found: _Found, memory: Memory | None, now_s: float) -> _Found:
    """Another process may have asked since we did. A time ahead of the clock, which was set back then, is no newer."""
    if memory is not None and found.at_s < memory.found_s <= now_s:
        return _Found(memory.found, memory.found_s)
    return found


def _notes(
    found: _Found, decision: Decision, state: State, memory: Memory | None, now_s: float
) -> tuple[tuple[str, ...], str, float]:
    """What to tell: lines, which are none if the same was told a moment ago; what that was, and when."""
    lines = [*dict.fromkeys(state.problems), *([found.problem] if found.problem else [])]
    lines += [f"{one.host} is without {one.slots} of its slots: {one.reason}" for one in decision.out]
    told = "\n".join(lines)
    if memory is not None and told == memory.told and 0 <= now_s - memory.told_s < _REPEAT_S:
        return (), told, memory.told_s
    if found.problem and found.hosts:
        lines.append(f"going on with the last good answer, {max(0.0, now_s - found.at_s):.0f} s old")
    return tuple(lines), told, now_s


def _answer(name: str, found: _Found, decision: Decision, now_s: float, notes: tuple[str, ...]) -> Answer:
    age_s = max(0.0, now_s - found.at_s)
    if not notes and found.problem and not found.hosts:
        notes = (found.problem,)
    return Answer(name, decision.hosts, decision.out, age_s, found.problem, notes)
