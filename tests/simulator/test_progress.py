"""Cycles of work and commits: the formulas against counting nanosecond by nanosecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator.engine.ledger import Account, Ledger
from simulator.engine.progress import Commits, Progress

short = st.integers(0, 12)


def counted(interval: int, stall: int, write: int, wall: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Useful time, stalled time, and the commits (work, when safe), counted one by one."""
    useful, stalled, commits, place = 0, 0, [], 0
    for now in range(wall):
        if place < interval:
            useful += 1
        else:
            stalled += 1
        place += 1
        if place == interval + stall:
            place = 0
            commits.append((useful, now + 1 + write))
    return useful, stalled, commits


@given(st.integers(1, 12), short, short, st.lists(short, max_size=8))
def test_running_in_pieces_is_running(interval: int, stall: int, write: int, pieces: list[int]) -> None:
    write = min(write, interval)
    ledger = Ledger()
    progress = Progress(ledger, interval, stall, (Commits(1, write),))
    for piece in pieces:
        progress.run_until(ledger.closed_ns + piece)
    now = sum(pieces)
    useful, stalled, commits = counted(interval, stall, write, now)
    assert (ledger[Account.USEFUL], ledger[Account.COMMIT_STALL]) == (useful, stalled)
    assert progress.work_ns == useful
    safe = max((work for work, safe_at in commits if safe_at <= now), default=0)
    assert progress.tiers[0].newest(now).work_ns == safe
    assert progress.roll_back(0, now) == useful - safe
    assert (progress.work_ns, ledger[Account.REDONE], ledger[Account.USEFUL]) == (safe, useful - safe, safe)


@given(st.integers(1, 12), short, st.integers(0, 30), st.integers(1, 60))
def test_the_wall_time_for_so_much_work_is_the_least(interval: int, stall: int, before: int, work: int) -> None:
    ledger = Ledger()
    progress = Progress(ledger, interval, stall, (Commits(1, 0),))
    progress.run_until(before)
    done = progress.work_ns
    wall = progress.wall_for(work)
    assert counted(interval, stall, 0, before + wall)[0] - done == work
    assert counted(interval, stall, 0, before + wall - 1)[0] - done == work - 1


@given(st.integers(1, 6), st.integers(1, 10), st.lists(short, min_size=1, max_size=12))
def test_every_so_many_commits_go_to_the_second_tier(every: int, interval: int, pieces: list[int]) -> None:
    ledger = Ledger()
    progress = Progress(ledger, interval, 1, (Commits(1, 0), Commits(every, 0)))
    for piece in pieces:
        progress.run_until(ledger.closed_ns + piece)
    commits = counted(interval, 1, 0, sum(pieces))[2]
    wanted = commits[len(commits) // every * every - 1][0] if len(commits) >= every else 0
    assert progress.tiers[1].newest(sum(pieces)).work_ns == wanted
