"""Every text format that names hosts, read into hosts and slots. Pure: text or an environment in, hosts out.

Errors are ConfigError with the source, the line and what was expected. This module opens no file and runs no command:
`reading` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from ft_horovod.core.errors import ConfigError
from launch.discovery.hosts import EXPECTED, HostSlots, NoHosts, merge, parse_host, parse_slots, split_number
from launch.discovery.nodelist import expand, expand_counts

T = TypeVar("T")
Q = TypeVar("Q")

Environment = Mapping[str, str]
_SLOTS_KEYS = ("slots", "count", "cpu")  # Open MPI takes all three
_IGNORED_KEYS = ("max_slots", "max-slots")  # how far mpirun may oversubscribe: we never do


def host_lines(text: str, source: str, default_slots: int = 1) -> tuple[HostSlots, ...]:
    """`host`, `host:slots` or `host slots=N` a line; `gpu[01-03],login1` is several hosts, `#` begins a comment.

    Static files, mpirun's host files, those of Kubernetes' MPI operator, and what its discover_hosts.sh prints.
    """
    return _some(
        (host for number, line in _lines(text) for host in _one_line(line, default_slots, source, number)), source
    )


def slot_lines(text: str, source: str) -> tuple[HostSlots, ...]:
    """A host name a line, one line a slot: PBS_NODEFILE and LSB_DJOB_HOSTFILE."""

    def read(line: str) -> HostSlots:
        if len(line.split()) > 1:
            raise ValueError(f"expected one host name a line, found {line!r}")
        return HostSlots(parse_host(line), 1)

    return _some((_at(source, number, read, line) for number, line in _lines(text)), source)


def slurm(environment: Environment, slots: int | None = None) -> tuple[HostSlots, ...]:
    """The nodes of a Slurm allocation, each with `slots`, or else as many as the allocation asks for.

    Tasks per node when tasks were asked for; else the GPUs of a node, as many on each as on the first; else tasks per
    node as Slurm worked them out from processors.
    """
    key = "SLURM_JOB_NODELIST" if environment.get("SLURM_JOB_NODELIST") else "SLURM_NODELIST"
    nodes = _at(key, None, expand, _needed(environment, key, "run inside an allocation (sbatch, salloc)"))
    names = [_at(key, None, parse_host, node) for node in nodes]
    if slots is not None:
        counts: tuple[int, ...] = (slots,) * len(names)
    else:
        counts = _slurm_counts(environment, len(names))
    return merge(HostSlots(name, count) for name, count in zip(names, counts, strict=True))


def _slurm_counts(environment: Environment, nodes: int) -> tuple[int, ...]:
    tasks_wanted = bool(environment.get("SLURM_NTASKS") or environment.get("SLURM_NTASKS_PER_NODE"))
    gpus = environment.get("SLURM_GPUS_ON_NODE", "")
    tasks = environment.get("SLURM_TASKS_PER_NODE", "")
    if gpus and not (tasks and tasks_wanted):
        return (_at("SLURM_GPUS_ON_NODE", None, parse_slots, gpus),) * nodes
    if not tasks:
        return (1,) * nodes
    counts = _at("SLURM_TASKS_PER_NODE", None, expand_counts, tasks)
    if len(counts) != nodes:
        problem = f"{tasks!r} is for {len(counts)} nodes, SLURM_JOB_NODELIST has {nodes}"
        raise ConfigError(problem, source="SLURM_TASKS_PER_NODE")
    return counts


def lsb_hosts(text: str, source: str = "LSB_HOSTS") -> tuple[HostSlots, ...]:
    """`hostA hostA hostB`: a name for each slot."""
    return _some((HostSlots(_at(source, None, parse_host, name), 1) for name in text.split()), source)


def lsb_mcpu_hosts(text: str, source: str = "LSB_MCPU_HOSTS") -> tuple[HostSlots, ...]:
    """`hostA 2 hostB 4`: names and slots in turn."""
    words = text.split()
    if len(words) % 2:
        raise ConfigError(f"expected HOST SLOTS HOST SLOTS ..., found {len(words)} words", source=source)
    pairs = zip(words[::2], words[1::2], strict=True)
    return _some(
        (
            HostSlots(_at(source, None, parse_host, name), _at(source, None, parse_slots, count))
            for name, count in pairs
        ),
        source,
    )


def with_slots(hosts: Iterable[HostSlots], slots: int | None) -> tuple[HostSlots, ...]:
    """The same hosts with `slots` each, if that is given: what a scheduler counts are processors as a rule."""
    return tuple(hosts) if slots is None else tuple(HostSlots(one.host, slots) for one in hosts)


def _one_line(line: str, default_slots: int, source: str, number: int) -> Iterator[HostSlots]:
    def read(words: list[str]) -> list[HostSlots]:
        first, inline = split_number(words[0])
        given = [parse_slots(inline)] if inline is not None else []
        for word in words[1:]:
            key, equals, value = word.partition("=")
            if not equals or key not in _SLOTS_KEYS + _IGNORED_KEYS:
                raise ValueError(f"{EXPECTED}, found {word!r} after {words[0]!r}")
            if key in _SLOTS_KEYS:
                given.append(parse_slots(value))
        if len(given) > 1:
            raise ValueError(f"slots are given twice in {line!r}")
        several = ("[" in first or "," in first) and not first.startswith("[")
        names = expand(first) if several else (first,)
        return [HostSlots(parse_host(name), given[0] if given else default_slots) for name in names]

    yield from _at(source, number, read, line.split())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with their numbers from 1, without comments."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if said := line.partition("#")[0].strip():
            yield number, said


def _some(hosts: Iterable[HostSlots], source: str) -> tuple[HostSlots, ...]:
    found = merge(hosts)
    if not found:
        raise NoHosts("names no host", source=source)
    return found


def _at(source: str, line: int | None, read: Callable[[Q], T], text: Q) -> T:
    """`read(text)`, whose ValueError becomes a ConfigError that says where."""
    try:
        return read(text)
    except ValueError as error:
        raise ConfigError(str(error), source=source, line=line) from error


def _needed(environment: Environment, name: str, hint: str) -> str:
    value = environment.get(name, "").strip()
    if not value:
        raise ConfigError(f"is not set: {hint}", source=name)
    return value
