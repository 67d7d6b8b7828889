"""A run folder as a live run leaves it, with step times and recoveries that a test chooses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ft_horovod.core.config import LayoutConfig, RunConfig
from ft_horovod.core.decode import encode_yaml
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import Layout, place
from ft_horovod.core.schedule import PlannedFault
from ft_horovod.core.trace import (
    AnyEvent,
    CommitWritten,
    FailureRecovered,
    FaultInjected,
    RunFinished,
    RunStarted,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
    ViewAgreed,
    WorkerLost,
    WorkerStarted,
    encode,
)

STEP_S = 0.5
PHASES_S = {"detect": 0.1, "shrink": 0.02, "replan": 0.001, "restore": 0.03, "reinit": 0.004, "redo": 0.3}


def write_run(folder: Path, struck: Sequence[tuple[int, float]], steps: int = 40, scale: float = 1.0) -> Path:
    """Four workers and a spare; one is killed in each (step, within). Recoveries take `scale` times PHASES_S."""
    folder.mkdir(parents=True)
    config = RunConfig(layout=LayoutConfig(workers=4, spares=1), epochs=1)
    (folder / "config.yaml").write_text(encode_yaml(config))
    planned = [
        PlannedFault(number=n, kind="kill", step=step, within=within, worker=n)
        for n, (step, within) in enumerate(struck)
    ]
    (folder / "faults.json").write_bytes(msgspec.json.encode(planned))
    events = sorted(_events(folder.name, dict(struck), steps, scale), key=lambda event: event.time_s)
    (folder / "trace.jsonl").write_bytes(b"".join(map(encode, events)))
    return folder


def _events(name: str, struck: dict[int, float], steps: int, scale: float) -> list[AnyEvent]:
    roster = [WorkerId("a", slot) for slot in range(5)]
    layout, now_s, by = place(roster, 4), 100.0, "a:0"
    started = [
        WorkerStarted(time_s=1.0, by=str(one), worker=str(one), host="a", pid=one.slot, number=one.slot)
        for one in roster
    ]
    told: list[AnyEvent] = [
        RunStarted(
            time_s=0.0,
            by="launcher",
            run=name,
            workers=4,
            spares=1,
            min_workers=1,
            model="tiny",
            data="digits",
            batch_size=64,
            launcher="mpirun",
            version="0",
        ),
        *started,
        TrainingStarted(
            time_s=now_s,
            by=by,
            step=0,
            steps=steps,
            steps_per_epoch=steps,
            train_samples=9,
            test_samples=9,
            parameters=1_000_000,
        ),
        ViewAgreed(time_s=now_s, by=by, epoch=0, layout=layout, step=0, reason="start"),
    ]
    for step in range(steps):
        step_s, recovery_s = STEP_S, 0.0
        if step in struck:
            step_s, layout, more = _strike(step, struck[step], now_s, layout, scale)
            recovery_s = max(0.0, step_s - STEP_S)
            told += more
        now_s += step_s
        told.append(StepFinished(time_s=now_s, by=by, epoch=0, step=step, step_s=step_s, loss=1.0, samples=64, lr=0.1,
                                 recovery_s=recovery_s))  # fmt: skip
    told += [
        CommitWritten(time_s=now_s, by=by, step=steps, tier="disk", stall_s=0.05, write_s=0.2, size_bytes=9),
        TrainingFinished(time_s=now_s, by=by, step=steps, final_loss=1.0, weights_sha256="0" * 64, samples_exact=True,
                         samples=64 * steps),
        RunFinished(time_s=now_s + 1, by="launcher", outcome="finished"),
    ]  # fmt: skip
    return told


def _strike(
    step: int, within: float, now_s: float, layout: Layout, scale: float
) -> tuple[float, Layout, list[AnyEvent]]:
    """The last member is killed; the spare takes its place while there is one."""
    group, epoch = layout.groups[0], step
    victim, spares = group.backups[-1], layout.spares
    backups = (*group.backups[:-1], *spares[:1])
    after = Layout((msgspec.structs.replace(group, backups=backups),), spares[1:])
    phases = {f"{name}_s": seconds * scale for name, seconds in PHASES_S.items()}
    phases["redo_s"] = PHASES_S["redo"]
    if not spares:
        phases["restore_s"] = 0.0
    total_s, hit_s = sum(phases.values()), now_s + within * STEP_S
    told: list[AnyEvent] = [
        FaultInjected(time_s=hit_s, by=str(victim), kind="kill", worker=str(victim), step=step),
        WorkerLost(time_s=hit_s + 0.1, by="a:0", worker=str(victim), kind="kill", role="backup", step=step),
        ViewAgreed(time_s=hit_s + 0.15, by="a:0", epoch=epoch, layout=after, step=step, reason="failure"),
        FailureRecovered(time_s=hit_s + total_s, by="a:0", kind="kill", worker=str(victim), step=step, epoch=epoch,
                         noticed_s=0.0, total_s=total_s, **phases),
    ]  # fmt: skip
    return within * STEP_S + total_s, after, told
