"""The error tree. Each branch says whose move is next.

    FtHorovodError
    ├── ConfigError           the user mends the file, key or flag          exit 2
    ├── MembershipError       the recovery loop regroups                    never leaves the loop
    │   ├── WorkersLost       somebody died
    │   └── Stalled           nobody died, but nobody moves either
    ├── Fenced                this worker was given up by the others        exit 3, at once
    │   └── Dismissed         a newcomer that is not needed any more        exit 0
    ├── QuorumLost            the scheduler requeues, the run resumes       exit 75
    ├── CommitError           a commit cannot be read: use the previous one
    └── InvalidTransition     a bug of ours: never caught                   exit 70

This module knows names and exit codes. It does not know how an error is shown.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_CONFIG = 2
EXIT_FENCED = 3
EXIT_BUG = 70
EXIT_REQUEUE = 75
EXIT_INTERRUPTED = 130


class FtHorovodError(Exception):
    """Root of the tree; `exit_code` is what the process ends with when nobody handles it."""

    exit_code: int = EXIT_BUG


class ConfigError(FtHorovodError):
    """The user's input is wrong; the message is one line with file, key, line and what was expected."""

    exit_code = EXIT_CONFIG

    def __init__(self, problem: str, *, source: str | None = None, key: str | None = None, line: int | None = None):
        place = source or ("line" if line is not None else "")
        if line is not None:
            place += f":{line}" if source else f" {line}"
        super().__init__(_one_line(": ".join(part for part in (place, key, problem) if part)))
        self.problem, self.source, self.key, self.line = problem, source, key, line


def _one_line(text: str) -> str:
    """Control characters and lone surrogates are shown as escapes: a message must not break or steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class MembershipError(FtHorovodError):
    """The agreed membership no longer holds: regroup."""


class WorkersLost(MembershipError):
    """A peer died, or somebody else saw one die."""


class Stalled(MembershipError):
    """A collective made no progress within its limit although no death was reported."""


class Fenced(FtHorovodError):
    """The others went on without this worker, or it cannot follow: it must end at once and write nothing."""

    exit_code = EXIT_FENCED


class Dismissed(Fenced):
    """A newcomer waited to be let in, and will not be: the group changed, or the run is over."""

    exit_code = EXIT_OK


class QuorumLost(FtHorovodError):
    """Too few workers live, or nobody holds the state of a stage: stop, so that the run can be resumed."""

    exit_code = EXIT_REQUEUE


class CommitError(FtHorovodError):
    """A commit on disk or in memory is incomplete or damaged; the one before it is to be used."""


class InvalidTransition(FtHorovodError):
    """The program contradicts its own rules: a bug of ours."""
