"""The trace: every event comes back as it was written, and no line that somebody broke stops a reader."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect
from recovery_world import layouts

from ft_horovod.core import trace
from ft_horovod.core.layout import Layout
from ft_horovod.core.trace import AnyEvent, Event, decode, decode_lines, encode

CLASSES: tuple[type[Event], ...] = tuple(
    one for one in vars(trace).values() if isinstance(one, type) and issubclass(one, Event) and one is not Event
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def values(info: inspect.Type) -> st.SearchStrategy[object]:
    """Any value of a field's type, found by looking: a new event is tested without a word here."""
    match info:
        case inspect.StrType():
            return texts
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(-(2**63), 2**63 - 1)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=allowed):
            return st.sampled_from(allowed)
        case inspect.UnionType(types=types):
            return st.one_of([values(one) for one in types])
        case inspect.StructType(cls=cls) if cls is Layout:
            return layouts()
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=3).map(tuple if isinstance(info, inspect.VarTupleType) else list)
        case inspect.DictType(value_type=value):
            return st.dictionaries(texts, values(value), max_size=3)
    raise AssertionError(f"no values for {info}")


def events(kind: type[Event]) -> st.SearchStrategy[Event]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return st.builds(kind, **{field.name: values(field.type) for field in info.fields})


any_event = st.sampled_from(CLASSES).flatmap(events)


def test_every_event_can_be_read() -> None:
    assert len(CLASSES) > 10
    assert set(get_args(AnyEvent)) == set(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_name_of_an_event_is_that_of_its_class(kind: type[Event]) -> None:
    assert kind.__struct_config__.tag == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    assert kind.__struct_config__.tag_field == "event"
    assert kind.__struct_config__.frozen
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}("), "a docstring of its own"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_event_comes_back(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events(kind))
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == event
    assert type(decode(line)) is kind
    assert list(decode_lines([line])) == [event]


@given(st.lists(any_event, max_size=5), st.data())
def test_a_trace_cut_anywhere_is_its_beginning(written: list[Event], data: st.DataObject) -> None:
    text = b"".join(map(encode, written))
    cut = data.draw(st.integers(0, len(text)))
    seen = list(decode_lines(text[:cut].splitlines(keepends=True)))
    assert seen == written[: text[:cut].count(b"\n")]


@given(st.lists(any_event, min_size=1, max_size=4), st.data())
def test_a_torn_line_in_the_middle_costs_no_other(written: list[Event], data: st.DataObject) -> None:
    """A writer was killed in the middle of a line, a later one ended the line and went on."""
    torn = encode(data.draw(any_event))[:-1]
    torn = torn[: data.draw(st.integers(0, len(torn) - 1))]
    at = data.draw(st.integers(0, len(written)))
    lines = [encode(event) for event in written]
    assert list(decode_lines([*lines[:at], torn + b"\n", *lines[at:]])) == written
    assert list(decode_lines([*lines, torn])) == written


WORKER_FINISHED = b'{"event":"worker_finished","time_s":1.0,"by":"a","worker":"b"'


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"null\n",
        b"[]\n",
        b"3\n",
        b"{}\n",
        b'"worker_finished"\n',
        b'{"event":"of_a_later_version","time_s":1.0,"by":"a"}\n',
        b'{"event":7,"time_s":1.0,"by":"a"}\n',
        b'{"time_s":1.0,"by":"a","worker":"b"}\n',
        b'{"event":"worker_finished","time_s":1.0,"by":"a"}\n',
        b'{"event":"worker_finished","time_s":"1.0","by":"a","worker":"b"}\n',
        WORKER_FINISHED + b"}x\n",
        WORKER_FINISHED + b"}" + WORKER_FINISHED + b"}\n",
        b"\xff\xfe" + WORKER_FINISHED + b"}\n",
        b'{"event":"worker_finished","time_s":1.0,"by":"\xff","worker":"b"}\n',
        WORKER_FINISHED + b"}",
        b'{"event":"view_agreed","time_s":1.0,"by":"a","epoch":1,"step":1,"reason":"start","layout":{"groups":[]}}\n',
        b"Traceback (most recent call last):\n",
        b"\x00" * 100 + b"\n",
    ],
)
def test_foreign_lines_are_skipped(line: bytes) -> None:
    good = WORKER_FINISHED + b"}\n"
    assert list(decode_lines([good, line, good])) == [decode(good)] * 2


def test_keys_of_a_later_version_are_skipped() -> None:
    assert decode(WORKER_FINISHED + b',"later":[{"x":1}]}\n') == decode(WORKER_FINISHED + b"}\n")


@given(st.binary(max_size=80))
def test_any_line_is_an_event_or_skipped(line: bytes) -> None:
    assert all(isinstance(event, Event) for event in decode_lines([line, line + b"\n"]))


def test_what_is_not_given_is_not_written() -> None:
    assert msgspec.json.decode(encode(trace.WorkerFinished(time_s=1, by="a", worker="b"))) == {
        "event": "worker_finished",
        "time_s": 1,
        "by": "a",
        "worker": "b",
    }
    assert b"recovery_s" not in encode(
        trace.StepFinished(time_s=1, by="a", epoch=0, step=1, step_s=0.1, loss=1.0, samples=3, lr=0.1)
    )


def test_a_run_that_diverges_stays_visible() -> None:
    step = trace.StepFinished(time_s=1, by="a", epoch=0, step=1, step_s=0.1, loss=None, samples=3, lr=0.1)
    assert list(decode_lines([encode(step)])) == [step]


def test_a_line_of_brackets_is_skipped() -> None:
    assert list(decode_lines([WORKER_FINISHED + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}\n"])) == []
