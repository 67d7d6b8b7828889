"""Names of workers: written, read back, ordered, and what is no name."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_horovod.core.identity import WorkerId

hosts = st.from_regex(r"[^:#\s]+", fullmatch=True)
ids = st.builds(WorkerId, hosts, st.integers(0, 10**20), st.integers(0, 3) | st.integers(0, 10**20))


@given(ids)
def test_what_str_writes_parse_reads(worker: WorkerId) -> None:
    assert WorkerId.parse(str(worker)) == worker


@given(st.text())
def test_parse_reads_or_refuses(text: str) -> None:
    try:
        worker = WorkerId.parse(text)
    except ValueError:
        return
    assert WorkerId.parse(str(worker)) == worker


@given(ids, ids)
def test_order_and_equality_are_those_of_host_slot_incarnation(a: WorkerId, b: WorkerId) -> None:
    left, right = (a.host, a.slot, a.incarnation), (b.host, b.slot, b.incarnation)
    assert (a < b, a == b) == (left < right, left == right)
    assert a != b or hash(a) == hash(b)
    assert (str(a) == str(b)) == (a == b), "two workers never share a name"


@pytest.mark.parametrize(
    ("text", "worker"),
    [
        ("node7:0", WorkerId("node7", 0)),
        ("10.0.0.1:12", WorkerId("10.0.0.1", 12)),
        ("a:3#2", WorkerId("a", 3, 2)),
        ("a:3#0", WorkerId("a", 3)),
        ("a-b_c.d:03", WorkerId("a-b_c.d", 3)),
    ],
)
def test_names(text: str, worker: WorkerId) -> None:
    assert WorkerId.parse(text) == worker


@pytest.mark.parametrize(
    "text",
    ["", "a", ":1", "a:", "a:x", "a:-1", "a:1#", "a:1#-1", "a:1#x", "a b:1", "a:1\n", " a:1", "a:1:2", "a#1:2", "a:1.0",
     "::1:2", "a:\N{ARABIC-INDIC DIGIT THREE}", "a:1#\N{SUPERSCRIPT TWO}"],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not host:slot or host:slot#incarnation"):
        WorkerId.parse(text)


@pytest.mark.parametrize(
    ("host", "slot", "incarnation"),
    [("", 0, 0), ("a", -1, 0), ("a", 0, -1), ("a:b", 0, 0), ("a#b", 0, 0), ("a b", 0, 0), ("a\n", 0, 0)],
)
def test_no_worker_whose_name_cannot_be_read_can_be_built(host: str, slot: int, incarnation: int) -> None:
    with pytest.raises(ValueError, match="not a worker"):
        WorkerId(host, slot, incarnation)
    text = msgspec.json.encode({"host": host, "slot": slot, "incarnation": incarnation})
    with pytest.raises(msgspec.ValidationError, match="not a worker"):
        msgspec.json.decode(text, type=WorkerId)
