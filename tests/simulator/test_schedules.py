"""Traces of others: every shipped one is read, every bad one is refused with its row."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from ft_horovod.core.decode import decode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule, resolve
from simulator.schedules.changes import Changes
from simulator.schedules.generate import drawn_schedule
from simulator.schedules.read import read_any, read_trace
from simulator.schedules.write import as_changes, as_schedule, write_schedule

TRACES = Path(str(resources.files("simulator.data"))) / "traces"
SHIPPED = sorted(path for path in TRACES.glob("*/*") if path.suffix in (".csv", ".txt", ".json"))


def sizes(trace: Changes) -> list[tuple[float, int]]:
    """The number of nodes after each moment of change."""
    count, last = len(trace.present), {0.0: len(trace.present)}
    for change in trace.changes:
        count += 1 if change.up else -1
        last[change.time_s] = count
    return list(last.items())


def test_all_traces_are_shipped() -> None:
    assert len(SHIPPED) == 18


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shipped_trace_becomes_a_schedule_and_back(path: Path, tmp_path: Path) -> None:
    trace = read_trace(path)
    schedule, nodes = as_schedule(trace)
    write_schedule(tmp_path / "s.yaml", schedule, "test")
    again = decode_yaml((tmp_path / "s.yaml").read_text(), FaultSchedule, source="s.yaml")
    assert again == schedule
    assert max(count for _, count in sizes(trace)) == nodes
    back = as_changes(schedule, "s.yaml")
    assert sizes(back)[-1][1] - len(back.present) == sizes(trace)[-1][1] - nodes
    assert resolve(schedule, nodes)  # a live run takes it


def test_a_node_count_series_keeps_its_counts() -> None:
    trace = read_trace(TRACES / "parcae_nsdi24" / "p3.csv")
    rows = [line.split(",") for line in (TRACES / "parcae_nsdi24" / "p3.csv").read_text().split()]
    wanted = {float(time_ms) / 1000: int(count) for time_ms, count in rows}
    assert dict(sizes(trace)).items() <= wanted.items()


BAD = [
    ("a.csv", "", "auto", "a.csv: is empty: there is no row in it"),
    ("a.csv", "0,add,n1\n5,remove,n2\n", "auto", "a.csv:2: n2 unknown node: goes, and is not there"),
    ("a.csv", "0,add,n1\n5,add,n1\n", "auto", "a.csv:2: n1 comes, and is there already"),
    ("a.csv", "0,add,n1\n9,remove,n1\n5,add,n1\n", "auto", "a.csv:3: time 0.005 s comes before that of the row above"),
    ("a.csv", "-5,add,n1\n", "add-remove", "a.csv:1: negative time: -5"),
    ("a.csv", "x,add,n1\n", "auto", "a.csv:1: 'x' is not a time"),
    ("a.csv", "0,add,n1\n5,gone,n1\n", "auto", "a.csv:2: expected milliseconds,add or remove,node"),
    ("a.csv", "node,start,end\nn1,9,4\n", "intervals", "a.csv:2: n1 is repaired at 4 s, before its failure at 9 s"),
    ("a.csv", "n1,3,9\nn2,1,4\n", "auto", "a.csv:2: start 1 s comes before that of the row above, 3 s"),
    ("a.csv", "n1,3,9\nn1,5,12\n", "auto", "a.csv:2: n1 fails at 5 s, and is away until 9 s: rows overlap"),
    ("a.csv", "n1,-3,9\n", "auto", "a.csv:1: negative time: -3"),
    ("a.csv", "n1,3\nn1\n", "auto", "a.csv:1: 'n1' is not a time"),
    ("a.csv", "0,4\n10,-1\n", "auto", "a.csv:2: '-1' is not a number of nodes"),
    ("a.csv", "1;2;3;4\n", "auto", "a.csv:1: no known format; known: add-remove"),
    ("a.csv", "0,4\n9,3\n5,2\n", "auto", "a.csv:3: time 0.005 s comes before"),
    ("a.txt", "2021-12-11, 11:11:70, 5\n", "auto", "a.txt:1: 2021-12-11 11:11:70 is not a date and a time"),
    ("a.txt", '[0, "add", {"nodes": ["a"]}]\n[5, "burn", {"nodes": []}]\n', "auto", "a.txt:2: operation is 'burn'"),
    ("a.txt", '[0, "add"]\n', "auto", "a.txt:1: expected [milliseconds, operation, {nodes}]"),
    ("a.json", '[{"node_id": "a", "event_time": 3, "event_type": "fault_end"}]', "auto",
     "a.json:1: a is repaired before its failure"),
    ("a.json", "[{}]", "infinitehbd", "a.json: expected a list of node_id"),
    ("a.csv", "0,add,n1\n", "csv", "command line: there is no format 'csv'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "kind", "message"), BAD)
def test_a_bad_trace_is_refused_with_its_row(tmp_path: Path, name: str, text: str, kind: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_trace(path, kind)
    assert str(caught.value).removeprefix(f"{tmp_path}/").startswith(message)
    assert "\n" not in str(caught.value)


def test_rows_can_be_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("9,remove,n1\n0,add,n1\n")
    assert [change.up for change in read_trace(path, sort=True).changes] == [False]


def test_a_drawn_schedule_is_what_the_rates_say(tmp_path: Path) -> None:
    from sim_world import scenario

    drawn = drawn_schedule(scenario(), hours=1000)
    assert len(drawn.faults) == pytest.approx(1000 * 9 / 16, rel=0.15)
    write_schedule(tmp_path / "s.yaml", drawn, "test")
    assert read_any(tmp_path / "s.yaml").changes
