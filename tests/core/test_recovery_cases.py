"""Recovery plans by example, in the notation of `recovery_world`."""

from __future__ import annotations

import pytest
from recovery_world import read_layout, worker, workers, write_layout

from ft_horovod.core.errors import EXIT_REQUEUE, QuorumLost
from ft_horovod.core.identity import WorkerId
from ft_horovod.core.layout import place
from ft_horovod.core.recovery import Goal, RecoveryPlan, recover

NEWEST = 5


def plan_for(
    text: str,
    goal: str = "",
    *,
    lost: str = "",
    leaving: str = "",
    joining: str = "",
    behind: str = "",
    blank: str = "",
    fewest: int = 1,
) -> RecoveryPlan:
    """`goal` is one digit a stage, else as many as now; who is `behind` lacks the last step, `blank` ones all of it."""
    layout = read_layout(text)
    steps = {member: NEWEST for member in layout.members if member not in workers(lost)}
    steps |= dict.fromkeys(workers(behind), NEWEST - 1) | dict.fromkeys(workers(blank), -1)
    want = tuple(map(int, goal)) if goal else tuple(len(group.members) for group in layout.groups)
    return recover(
        layout, Goal(want, fewest), steps, lost=workers(lost), leaving=workers(leaving), joining=workers(joining)
    )


def written(plan: RecoveryPlan) -> list[str]:
    """The plan in words of the notation: promotions, moves, transfers."""
    return [
        *(f"{p.worker.host} leads {p.stage} instead of {p.instead_of.host}" for p in plan.promotions),
        *(
            f"{m.worker.host} to {m.stage}" + ("" if m.from_stage is None else f" from {m.from_stage}")
            for m in plan.moves
        ),
        *(f"{t.stage}: {t.source.host} gives {','.join(w.host for w in t.targets)}" for t in plan.transfers),
    ]


@pytest.mark.parametrize(
    ("before", "losses", "after", "plan"),
    [
        # Nothing lost.
        ("abc", {}, "abc", []),
        ("abc", {"behind": "b"}, "abc", ["0: a gives b"]),
        ("abc", {"behind": "ab"}, "abc", ["0: c gives a,b"]),
        ("ab|xy", {"goal": "3"}, "abx|y", ["x to 0", "0: a gives x"]),
        # Members lost, spares or not.
        ("abc", {"lost": "b"}, "ac", []),
        ("abc", {"lost": "a"}, "bc", ["b leads 0 instead of a"]),
        ("abc|xy", {"lost": "a"}, "bcx|y", ["b leads 0 instead of a", "x to 0", "0: b gives x"]),
        ("abc|xy", {"lost": "ab"}, "cxy", ["c leads 0 instead of a", "x to 0", "y to 0", "0: c gives x,y"]),
        ("abc", {"lost": "a", "behind": "b"}, "bc", ["b leads 0 instead of a", "0: c gives b"]),
        # A spare lost, leaving, and one that comes just to be lost.
        ("ab|xy", {"lost": "x"}, "ab|y", []),
        ("ab|xy", {"lost": "bx"}, "ay", ["y to 0", "0: a gives y"]),
        ("ab|xy", {"leaving": "x"}, "ab|y", []),
        ("ab", {"lost": "by", "joining": "y"}, "a", []),
        ("ab", {"leaving": "by", "joining": "yz"}, "az", ["z to 0", "0: a gives z"]),
        ("ab|x", {"joining": "y"}, "ab|xy", []),
        ("ab|x", {"lost": "ab"}, None, "stage 0: nobody is left who holds"),
        # Leaving: state is handed over, by those who stay if they can.
        ("ab|x", {"leaving": "b"}, "ax", ["x to 0", "0: a gives x"]),
        ("ab|x", {"leaving": "b", "behind": "a"}, "ax", ["x to 0", "0: b gives a,x"]),
        ("a|x", {"leaving": "a"}, "x", ["x leads 0 instead of a", "x to 0", "0: a gives x"]),
        ("a/b|x", {"leaving": "b"}, "a/x", ["x leads 1 instead of b", "x to 1", "1: b gives x"]),
        ("ab/c", {"leaving": "c"}, "a/b", ["b leads 1 instead of c", "b to 1 from 0", "1: c gives b"]),
        ("ab/c", {"leaving": "a", "lost": "c"}, None, "stage 1: nobody is left who holds its state"),
        ("ab", {"leaving": "a", "lost": "a"}, "b", ["b leads 0 instead of a"]),
        ("ab|xy", {"leaving": "ab"}, "xy", ["x leads 0 instead of a", "x to 0", "y to 0", "0: a gives x,y"]),
        ("a", {"leaving": "a"}, None, "stage 0: nobody is left who could take it over"),
        ("a/b", {"leaving": "b"}, None, "stage 1: nobody is left who could take it over"),
        ("a/b/c", {"leaving": "bc"}, None, "stage 1, 2: nobody is left who could take it over"),
        ("a/bc", {"leaving": "a", "goal": "15"}, "c/b", None),  # the empty group comes before the neediest
        ("a/bcd|x", {"leaving": "a", "goal": "15"}, "x/bcd", None),
        # Stages: the neediest first, then the first; members move only where two more are missing.
        ("ab/cd|x", {"lost": "bd"}, "ax/c", ["x to 0", "0: a gives x"]),
        ("abc/def|xy", {"lost": "bef"}, "acy/dx", ["x to 1", "y to 0", "0: a gives y", "1: d gives x"]),
        ("abc/def|x", {"lost": "cef"}, "ab/dx", ["x to 1", "1: d gives x"]),
        ("abc/def", {"lost": "ef"}, "ab/dc", ["c to 1 from 0", "1: d gives c"]),
        ("abc/de", {"lost": "e"}, "abc/d", []),
        ("ab/cd", {"lost": "d"}, "ab/c", []),
        ("abc/def/ghi", {"lost": "hi"}, "ab/def/gc", ["c to 2 from 0", "2: g gives c"]),
        ("abcd/e", {"goal": "11"}, "abcd/e", []),  # more than wanted, but nobody lacks anybody
        ("abcd/e", {"goal": "13"}, "ab/edc", ["d to 1 from 0", "c to 1 from 0", "1: e gives d,c"]),
        ("a/b", {"goal": "19"}, "a/b", []),  # leaders stay
        # A worker that moves and alone holds its old stage's newest state gives it away first.
        ("c/ab", {"leaving": "c", "behind": "a"}, "b/a", ["b leads 0 instead of c", "b to 0 from 1",
                                                          "1: b gives a", "0: c gives b"]),
        # States that do not fit together, or that nobody has.
        ("a/b", {"behind": "b"}, None, "stage 1: nobody is left who holds its state of step 5"),
        ("ab/cd", {"behind": "cd"}, None, "stage 1: nobody is left who holds its state of step 5"),
        ("ab/cd", {"behind": "c", "lost": "d"}, None, "stage 1: nobody is left who holds its state of step 5"),
        ("ab/cd", {"behind": "ac"}, "ab/cd", ["0: b gives a", "1: d gives c"]),
        ("ab", {"lost": "a", "blank": "b"}, None, "stage 0: nobody is left who holds its state"),
        ("ab/c", {"blank": "b"}, "ab/c", ["0: a gives b"]),
        # The fewest to go on with.
        ("abcd", {"lost": "ab", "fewest": 3}, None, "2 members are left, at least 3 are needed"),
        ("abcd", {"lost": "a", "fewest": 3}, "bcd", ["b leads 0 instead of a"]),
        ("abcd|x", {"lost": "ab", "fewest": 3}, "cdx", None),
        ("abc", {"leaving": "bc", "fewest": 2}, None, "1 members are left, at least 2 are needed"),
    ],
)  # fmt: skip
def test_plans(before: str, losses: dict[str, str], after: str | None, plan: list[str] | str | None) -> None:
    if after is None:
        assert isinstance(plan, str)
        with pytest.raises(QuorumLost, match=plan) as caught:
            plan_for(before, **losses)  # type: ignore[arg-type]
        assert caught.value.exit_code == EXIT_REQUEUE
    else:
        made = plan_for(before, **losses)  # type: ignore[arg-type]
        assert write_layout(made.layout) == after
        assert made.step == NEWEST
        assert plan is None or written(made) == plan


def test_cascade_until_a_stage_has_nobody() -> None:
    layout, seen = read_layout("ab/cd|xy"), []
    for step, victim in enumerate("axcy"):
        layout = recover(layout, Goal((2, 2)), dict.fromkeys(layout.members, step), lost=[worker(victim)]).layout
        seen.append(write_layout(layout))
    assert seen == ["bx/cd|y", "by/cd", "by/d", "b/d"]
    with pytest.raises(QuorumLost, match="stage 0: nobody is left who holds its state"):
        recover(layout, Goal((2, 2)), dict.fromkeys(layout.members, 9), lost=[worker("b")])


@pytest.mark.parametrize(
    ("members", "fewest"), [((), 1), ((0,), 1), ((2, 0), 1), ((2, 2), 0), ((2, 2), 5), ((-1, 3), 1)]
)
def test_goals_without_a_meaning_are_refused(members: tuple[int, ...], fewest: int) -> None:
    with pytest.raises(ValueError, match="every stage needs a member"):
        Goal(members, fewest)


def test_misuse_is_an_error_of_the_caller() -> None:
    layout = read_layout("ab|x")
    steps = dict.fromkeys(layout.members, 1)
    with pytest.raises(ValueError, match="zip"):
        recover(layout, Goal((1, 1)), steps)
    with pytest.raises(ValueError, match="stands twice"):
        recover(layout, Goal((2,)), steps, joining=[worker("x")])
    with pytest.raises(KeyError):
        recover(layout, Goal((2,)), {worker("a"): 1})


def test_twenty_thousand_workers_are_planned_at_once() -> None:
    """No set or list is searched for every worker: simulations plan for thousands."""
    roster = [WorkerId(f"host{i}", 0) for i in range(20_000)]
    layout = place(roster, 16_000, 4)
    plan = recover(
        layout, Goal((4_000,) * 4, 8_000), dict.fromkeys(roster, 7), lost=roster[:2_000], leaving=roster[2_000:3_000]
    )
    assert len(plan.moves) == 3_000
    assert len(plan.layout.members) == 16_000
