"""The trace: the events of a run, one JSON object a line. View, report, replay and calibration all read it.

Times of events are seconds since the Unix epoch, durations are seconds measured on one worker's monotonic clock. Each
event carries its name in `event`. Readers skip a torn last line: its writer was killed in the middle of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from ft_horovod.core.layout import Layout


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=True):
    """Base of all events: when, and who wrote it (`launcher`, or a worker's name)."""

    time_s: float
    by: str


class RunStarted(Event, frozen=True, tag="run_started"):
    """The launcher begins."""

    run: str
    workers: int
    spares: int
    min_workers: int
    model: str
    data: str
    batch_size: int
    launcher: str
    version: str


class Restarted(Event, frozen=True, tag="restarted"):
    """The launcher starts again, as it or a host was lost; the next event is a `run_started`."""

    reason: str
    workers: int  # processes, spares among them


class WorkerStarted(Event, frozen=True, tag="worker_started"):
    """A process is up. `number` is its place in launch order, by which fault schedules name it; newcomers have none."""

    worker: str
    host: str
    pid: int
    number: int | None = None
    late: bool = False


class TrainingStarted(Event, frozen=True, tag="training_started"):
    """The clock of wall_s and goodput begins: all have joined, data and model are ready."""

    step: int
    steps: int
    steps_per_epoch: int
    train_samples: int
    test_samples: int
    parameters: int
    resumed: bool = False


class ViewAgreed(Event, frozen=True, tag="view_agreed"):
    """A new membership holds from `step` on."""

    epoch: int
    layout: Layout
    step: int
    reason: Literal["start", "failure", "change"]


class Promoted(Event, frozen=True, tag="promoted"):
    """A worker leads its stage from now on."""

    worker: str
    stage: int
    instead_of: str


class StepFinished(Event, frozen=True, tag="step_finished"):
    """One optimizer step, written by the leader. `recovery_s` is the part of `step_s` that failures cost; `waited_s`,
    added up over all members, the time in which they waited for other stages.
    """

    epoch: int
    step: int
    step_s: float
    loss: float | None  # None: not a number any more
    samples: int
    lr: float
    recovery_s: float = 0.0
    waited_s: float = 0.0


class FaultInjected(Event, frozen=True, tag="fault_injected"):
    """The schedule struck; written by the victim just before."""

    kind: str
    worker: str
    step: int
    duration_s: float | None = None


class HangDetected(Event, frozen=True, tag="hang_detected"):
    """A worker's progress stood still for `silent_s`; it was killed by `by`."""

    worker: str
    silent_s: float
    limit_s: float
    phase: str


class SlowDetected(Event, frozen=True, tag="slow_detected"):
    """A worker computes `factor` times slower than the median of its group, and has for a while; 1: no longer."""

    worker: str
    factor: float


class WorkerLost(Event, frozen=True, tag="worker_lost"):
    """The survivors agree that a worker is gone; `role` is what it was. A lost spare costs nothing."""

    worker: str
    kind: Literal["kill", "hang", "lost"]
    role: Literal["leader", "backup", "spare"]
    step: int


class FailureRecovered(Event, frozen=True, tag="failure_recovered"):
    """A lost worker, and what the loss cost, phase by phase; the phases add up to `total_s`.

    detect: from the last sign of life to the leader's leaving the step; shrink: Horovod down, communicator shrunk;
    replan: facts exchanged, plan computed; restore: state to those who lack it; reinit: Horovod up; redo: from there to
    the next finished step. `noticed_s` is the part of detect after which the loss was known but work in hand was
    finished first.
    """

    kind: Literal["kill", "hang", "lost"]
    worker: str
    step: int
    epoch: int
    detect_s: float
    noticed_s: float
    shrink_s: float
    replan_s: float
    restore_s: float
    reinit_s: float
    redo_s: float
    total_s: float


class WorkerLeft(Event, frozen=True, tag="worker_left"):
    """A worker handed over and left at a step boundary."""

    worker: str
    step: int


class NewcomerDismissed(Event, frozen=True, tag="newcomer_dismissed"):
    """A process that was started to join is not needed any more, and ends."""

    worker: str
    reason: str


class CommitWritten(Event, frozen=True, tag="commit_written"):
    """State of `step` is safe. `stall_s`: how long training stood still for it; `write_s`: until it was safe."""

    step: int
    tier: Literal["peer", "peer_memory", "host_memory", "disk"]
    stall_s: float
    write_s: float
    size_bytes: int
    path: str | None = None
    count: int = 1  # commits that this one speaks for: the seconds are theirs together, the bytes the last one's


class CommitFailed(Event, frozen=True, tag="commit_failed"):
    """A commit could not be written; training goes on and the one before it stands."""

    step: int
    problem: str


class Evaluated(Event, frozen=True, tag="evaluated"):
    """Accuracy on the test set after `step` steps."""

    step: int
    accuracy: float
    samples: int


class TrainingFinished(Event, frozen=True, tag="training_finished"):
    """The leader's last word."""

    step: int
    final_loss: float | None
    weights_sha256: str
    samples_exact: bool
    samples: int


class TrainingStopped(Event, frozen=True, tag="training_stopped"):
    """The survivors give up for now: too few live, or a stage's state is gone. The run can be resumed."""

    step: int
    reason: str


class WorkerFailed(Event, frozen=True, tag="worker_failed"):
    """A worker ends because of an error of its own: the user's input (exit 2), or a bug."""

    worker: str
    exit_code: int
    message: str


class WorkerFinished(Event, frozen=True, tag="worker_finished"):
    """A worker reached the end of the run, as a member or as a spare; members say what weights they hold."""

    worker: str
    weights_sha256: str | None = None


class RunFinished(Event, frozen=True, tag="run_finished"):
    """The launcher's last word."""

    outcome: Literal["finished", "quorum_lost", "interrupted", "failed"]
    message: str = ""


AnyEvent = (
    RunStarted
    | Restarted
    | WorkerStarted
    | TrainingStarted
    | ViewAgreed
    | Promoted
    | StepFinished
    | FaultInjected
    | HangDetected
    | SlowDetected
    | FailureRecovered
    | WorkerLost
    | WorkerLeft
    | NewcomerDismissed
    | CommitWritten
    | CommitFailed
    | Evaluated
    | TrainingFinished
    | TrainingStopped
    | WorkerFailed
    | WorkerFinished
    | RunFinished
)

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """One line, newline included."""
    return _encoder.encode(event) + b"\n"


def decode(line: bytes) -> AnyEvent:
    """Read one line. Raises msgspec.DecodeError or msgspec.ValidationError."""
    return _decoder.decode(line)


def decode_lines(lines: Iterable[bytes]) -> Iterator[AnyEvent]:
    """All events of finished lines; lines that are torn or unknown to this version are skipped."""
    for line in lines:
        if line.endswith(b"\n"):
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
