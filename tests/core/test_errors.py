"""The error tree: exit codes, and messages that are one line and name file, key and line."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core import errors
from ft_horovod.core.errors import ConfigError, FtHorovodError

# Of each error: whose kind it is, and what a process ends with that does not handle it.
TREE: dict[str, tuple[str, int]] = {
    "ConfigError": ("FtHorovodError", 2),
    "MembershipError": ("FtHorovodError", 70),
    "WorkersLost": ("MembershipError", 70),
    "Stalled": ("MembershipError", 70),
    "Fenced": ("FtHorovodError", 3),
    "Dismissed": ("Fenced", 0),
    "QuorumLost": ("FtHorovodError", 75),
    "CommitError": ("FtHorovodError", 70),
    "InvalidTransition": ("FtHorovodError", 70),
}


def all_errors(kind: type[FtHorovodError]) -> list[type[FtHorovodError]]:
    return [error for sub in kind.__subclasses__() for error in (sub, *all_errors(sub))]


def test_the_tree_is_the_one_drawn() -> None:
    found = {error.__name__: error for error in all_errors(FtHorovodError) if error.__module__ == errors.__name__}
    assert {name: (error.__base__.__name__, error.exit_code) for name, error in found.items()} == TREE  # type: ignore[union-attr]
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in TREE)


def test_exit_codes_are_distinct_and_fit_a_byte() -> None:
    codes = [value for name, value in vars(errors).items() if name.startswith("EXIT_")]
    assert len(set(codes)) == len(codes)
    assert all(0 <= code <= 255 for code in codes)


@pytest.mark.parametrize(
    ("source", "key", "line", "message"),
    [
        ("run.yaml", "data.root", 7, "run.yaml:7: data.root: wrong"),
        ("run.yaml", None, 7, "run.yaml:7: wrong"),
        ("run.yaml", "data.root", None, "run.yaml: data.root: wrong"),
        ("run.yaml", None, None, "run.yaml: wrong"),
        (None, "data.root", None, "data.root: wrong"),
        (None, None, 7, "line 7: wrong"),
        (None, None, None, "wrong"),
    ],
)
def test_config_errors_name_the_place(source: str | None, key: str | None, line: int | None, message: str) -> None:
    error = ConfigError("wrong", source=source, key=key, line=line)
    assert str(error) == message
    assert (error.problem, error.source, error.key, error.line) == ("wrong", source, key, line)


@given(st.text(st.characters()), st.none() | st.text(), st.none() | st.text())
def test_config_errors_are_one_line_whatever_the_user_wrote(problem: str, source: str | None, key: str | None) -> None:
    message = str(ConfigError(problem, source=source, key=key, line=1))
    assert message.isprintable()
    assert len(message.splitlines()) == 1
    message.encode("utf-8")


def test_plain_text_stays_as_it_is() -> None:
    assert str(ConfigError("größer  als “1”", source="my run.yaml")) == "my run.yaml: größer  als “1”"
    assert str(ConfigError("a\nb\x1b[31m\ud800")) == "a\\nb\\x1b[31m\\ud800"


def test_config_errors_travel_between_processes() -> None:
    error = ConfigError("wrong", source="run.yaml", key="seed", line=3)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(other) == str(error)
        assert (other.key, other.line, other.exit_code) == ("seed", 3, 2)
