"""Where copies go: what moves when a member joins, how even the load is, what is lost together. No time is measured.

    .venv/bin/python benchmarks/placement.py

Consistent hashing (`ft_horovod.core.placement.HashRing`) against placement by remainder, and against the ring and the
groups of Gemini. Every figure is counted or exact, so it is the same on every machine. Writes JSON and a PNG.
"""

from __future__ import annotations

import argparse
import statistics
from hashlib import blake2b
from pathlib import Path

import msgspec
from common import RESULTS, console, machine_facts, write_result
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ft_horovod.core.loss_odds import odds, scheme_odds
from ft_horovod.core.placement import POINTS, HashRing, Member
from simulator.reports.style import FAINT, GRID, INK, LINES, panels, save

MEMBERS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
VIRTUAL = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CROWDS = (4, 16, 64)
HOSTS, COPIES, MOST_LOST = 16, 2, 8
SHARDS = 4000


class Moved(msgspec.Struct, frozen=True):
    """What moves when one more member joins so many: shares of all shards."""

    members: int
    hashed: float
    modulo: float
    least: float  # what must move: the newcomer's share


class Balance(msgspec.Struct, frozen=True):
    """How uneven loads are: the heaviest member's as a multiple of the mean, median over seeds, and the worst."""

    members: int
    points: int
    heaviest: float
    worst: float


class Odds(msgspec.Struct, frozen=True):
    """The chance that some state is gone when so many hosts are lost at once."""

    placement: str
    lost: int
    chance: float


def main() -> None:
    """Count, print, write, draw."""
    options = _parse()
    moved = [_moved(members) for members in MEMBERS]
    balance = [_balance(members, points, options.seeds) for members in CROWDS for points in VIRTUAL]
    chances = _chances()
    write_result(options.out, machine_facts(), vars(options), moved=moved, balance=balance, odds=chances)
    save(_figure(moved, balance, chances), options.out.with_suffix(".png"))
    for table in _tables(moved, balance, chances):
        console().print(table)


def _crew(members: int, seed: int = 0) -> list[Member]:
    return [Member(f"run{seed}-h{host}:0", f"h{host}") for host in range(members)]


def _moved(members: int) -> Moved:
    before, after = HashRing(_crew(members)), HashRing(_crew(members + 1))
    shards = [f"shard {number}" for number in range(SHARDS)]
    hashed = sum(before.holders(shard, 1) != after.holders(shard, 1) for shard in shards)
    keys = [int.from_bytes(blake2b(shard.encode(), digest_size=8).digest(), "big") for shard in shards]
    modulo = sum(key % members != key % (members + 1) for key in keys)
    return Moved(members, hashed / SHARDS, modulo / SHARDS, 1 / (members + 1))


def _balance(members: int, points: int, seeds: int) -> Balance:
    heaviest = []
    for seed in range(seeds):
        heaviest.append(max(HashRing(_crew(members, seed), points).shares().values()) * members)
    return Balance(members, points, statistics.median(heaviest), max(heaviest))


def _chances() -> list[Odds]:
    """Two copies, the owner's own included, of each host's state. By hashing: in one piece, or cut in 64."""
    crew = _crew(HOSTS)
    ring, number = HashRing(crew), {member: place for place, member in enumerate(crew)}

    def hashed(pieces: int) -> list[tuple[int, ...]]:
        return [
            (place, *(number[held] for held in ring.holders(f"{place}/{piece}", COPIES - 1, owner)))
            for place, owner in enumerate(crew)
            for piece in range(pieces)
        ]

    found = []
    for lost in range(1, MOST_LOST + 1):
        found += [Odds(scheme, lost, scheme_odds(HOSTS, COPIES, lost, scheme)) for scheme in ("group", "ring")]
        found += [Odds(_pieces(pieces), lost, odds(hashed(pieces), HOSTS, lost)) for pieces in (1, 64)]
    return found


def _pieces(pieces: int) -> str:
    return "hashed, whole states" if pieces == 1 else f"hashed, {pieces} pieces each"


def _figure(moved: list[Moved], balance: list[Balance], chances: list[Odds]) -> Figure:
    fig, (left, middle, right) = panels(3, 14.0, 4.2)
    members = [one.members for one in moved]
    left.plot(members, [100 * one.modulo for one in moved], color=LINES[1], lw=2, marker="o", ms=4, label="remainder")
    left.plot(
        members, [100 * one.hashed for one in moved], color=LINES[0], lw=2, marker="o", ms=4, label="consistent hashing"
    )
    left.plot(members, [100 * one.least for one in moved], color=INK, lw=1, ls=":", label="the newcomer's share")
    left.set_ylim(0, 100)
    _dress(left, "What moves when a member joins", "members before", "% of shards", members[::2])
    for place, crowd in enumerate(CROWDS):
        mine = [one for one in balance if one.members == crowd]
        virtual = [one.points for one in mine]
        middle.plot(virtual, [one.heaviest for one in mine], color=LINES[place], lw=2, marker="o", ms=4,
                    label=f"{crowd} members")  # fmt: skip
        middle.fill_between(virtual, [one.heaviest for one in mine], [one.worst for one in mine], color=LINES[place],
                            alpha=0.12, lw=0)  # fmt: skip
    middle.axvline(POINTS, color=INK, lw=1, ls=":")
    middle.annotate("default", (POINTS, 5.6), xytext=(4, 0), textcoords="offset points", color=FAINT, fontsize=9)
    middle.axhline(1, color=INK, lw=1)
    middle.set_ylim(0.9, 6)
    _dress(middle, "Heaviest load against virtual nodes", "points of a member", "times the mean", list(VIRTUAL[::2]))
    for place, name in enumerate(dict.fromkeys(one.placement for one in chances)):
        odds_of_it = [one for one in chances if one.placement == name]
        right.plot([one.lost for one in odds_of_it], [100 * one.chance for one in odds_of_it], color=LINES[place], lw=2,
                   marker="o", ms=4, label=_DRAWN.get(name, name))  # fmt: skip
    right.set_ylim(0, 102)
    _title(right, f"Some state is lost: {COPIES} copies on {HOSTS} hosts")
    right.set_xlabel("hosts lost at once")
    right.set_ylabel("chance, %")
    right.grid(color=GRID)
    right.legend(fontsize=9, frameon=False, loc="lower right")
    return fig


_DRAWN = {"group": "Gemini's groups", "ring": "Gemini's ring"}


def _dress(axes: Axes, title: str, across: str, up: str, ticks: list[int]) -> None:
    _title(axes, title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color=GRID)
    axes.legend(fontsize=9, frameon=False)


def _title(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")


def _tables(moved: list[Moved], balance: list[Balance], chances: list[Odds]) -> list[Table]:
    first = Table("members", "consistent hashing", "remainder", "newcomer's share", title="Moved when one joins")
    for one in moved:
        first.add_row(str(one.members), f"{one.hashed:.1%}", f"{one.modulo:.1%}", f"{one.least:.1%}")
    second = Table("members", *map(str, VIRTUAL), title="Heaviest load, times the mean, by points of a member")
    for crowd in CROWDS:
        second.add_row(str(crowd), *(f"{one.heaviest:.2f}" for one in balance if one.members == crowd))
    third = Table(
        "hosts lost", *map(str, range(1, MOST_LOST + 1)), title=f"{COPIES} copies on {HOSTS} hosts: some lost"
    )
    for name in dict.fromkeys(one.placement for one in chances):
        third.add_row(name, *(f"{one.chance:.1%}" for one in chances if one.placement == name))
    return [first, second, third]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=15, help="crews of other names, for the balance")
    parser.add_argument("--out", type=Path, default=RESULTS / "placement.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
