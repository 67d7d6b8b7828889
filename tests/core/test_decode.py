"""YAML to values: what is taken, what is refused, and in which words."""

from __future__ import annotations

import time
from typing import Literal

import msgspec
import pytest
from decode_world import Engine, Train, read

from ft_horovod.core.decode import convert, decode_yaml
from ft_horovod.core.errors import ConfigError


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "null", "~", "{}", "\ufeff"])
def test_an_empty_document_is_all_defaults(text: str) -> None:
    assert read(text) == Train()


@pytest.mark.parametrize(
    ("text", "train"),
    [
        ("cars: 3", Train(cars=3)),
        ("cars: 1_0", Train(cars=10)),
        ("cars: 0x1F", Train(cars=31)),
        ("fast: yes", Train(fast=True)),
        ("length: 2", Train(length=2.0)),
        ("length: 1e-3", Train(length=0.001)),
        ("length: 5E+2", Train(length=500.0)),
        ("length: -.5", Train(length=-0.5)),
        ("length: 1_0.5", Train(length=10.5)),
        ("name: 010", Train(name="010")),
        ("name: 1:30", Train(name="1:30")),
        ("name: 2024-01-01", Train(name="2024-01-01")),
        ("name: 2024-13-45", Train(name="2024-13-45")),
        ("name: =", Train(name="=")),
        ("name: 0b_", Train(name="0b_")),
        ("name: '1e3'", Train(name="1e3")),
        ("name: '.nan'", Train(name=".nan")),
        ("name: |\n  two\n  lines\n", Train(name="two\nlines\n")),
        ("\r\ncars: 2\r\n", Train(cars=2)),
        ("{cars: 2, stops: [a, b]}", Train(cars=2, stops=("a", "b"))),
    ],
)
def test_documents_that_are_right(text: str, train: Train) -> None:
    assert read(text) == train


def test_aliases_stand_for_what_they_name() -> None:
    engine = Engine(power=3.5)
    assert read("engine: &e {power: 3.5}\nspare: *e\nothers: [*e, *e]") == Train(
        engine=engine, spare=engine, others=(engine, engine)
    )


KEYS = "name, cars, fast, engine, spare, others, stops, length, grade"
NUMBER = "expected a finite number of at most 64 bits"
TEXT = "expected text without NUL and surrogate characters"

BAD = [
    # Not YAML.
    ("cars: [1", "t.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("cars: 1\n  fast: x", "t.yaml:2: not valid YAML: mapping values are not allowed here"),
    ("name: 'x", "t.yaml:1: not valid YAML: found unexpected end of stream"),
    ("\tcars: 1", "t.yaml:1: not valid YAML: found character '\\t' that cannot start any token"),
    ("cars: 1\n---\ncars: 2", "t.yaml:2: not valid YAML: but found another document"),
    ("cars: *nobody", "t.yaml:1: not valid YAML: found undefined alias 'nobody'"),
    ("cars: 1\nname: \x07", "t.yaml:2: not valid YAML: character 0x0007: special characters are not allowed"),
    ("\x7fELF\x02\x01\x00", "t.yaml:1: not valid YAML: character 0x007f: special characters are not allowed"),
    ("cars: 1\nname: \ud800", "t.yaml:2: not valid YAML: character 0xd800: special characters are not allowed"),
    ('cars: 1\nname: "\\U00110000"', "t.yaml:2: not valid YAML: chr() arg not in range(0x110000)"),
    # YAML that a config does not need.
    ("cars: !!int '3'", "t.yaml:1: not valid YAML: tags are not understood here"),
    ("!!python/object/apply:os.getpid []", "t.yaml:1: not valid YAML: tags are not understood here"),
    ("cars: 1\nstops: !!set {a}", "t.yaml:2: not valid YAML: tags are not understood here"),
    ("[" * 3000, "t.yaml:1: not valid YAML: nested deeper than 40"),
    ("? [a]\n: 1", "t.yaml:1: a key here is not plain text"),
    ("cars: 1\nengine:\n  {a: b}: 1", "t.yaml:3: engine: a key here is not plain text"),
    ("1: 2", "t.yaml:1: a key here is not plain text"),
    ("cars: 1\n~: 2", "t.yaml:2: a key here is not plain text"),
    ("yes: 2", "t.yaml:1: a key here is not plain text"),
    ('"\\ud800": 2', "t.yaml:1: a key here is not plain text"),
    ("engine: &e\n  power: *e", "t.yaml:1: engine.power: an alias inside what it stands for"),
    ("stops: &s [a, *s]", "t.yaml:1: stops[1]: an alias inside what it stands for"),
    ("<<: {cars: 2}", f"t.yaml:1: <<: unknown key; known here: {KEYS}"),
    # Keys.
    ("cars: 1\nfast: yes\ncars: 2", "t.yaml:3: cars: key given twice"),
    ("others:\n  - power: 1\n    power: 2", "t.yaml:3: others[0].power: key given twice"),
    ("'cars': 1\ncars: 1", "t.yaml:2: cars: key given twice"),
    ("cars: 1\nwheels: 4", f"t.yaml:2: wheels: unknown key; known here: {KEYS}"),
    ("engine: {fuel: 1}", "t.yaml:1: engine.fuel: unknown key; known here: kind, power"),
    ("spare:\n  fuel: 1", "t.yaml:2: spare.fuel: unknown key; known here: kind, power"),
    ("others:\n- {}\n- fuel: 1", "t.yaml:3: others[1].fuel: unknown key; known here: kind, power"),
    ("'': 1", f"t.yaml:1: '': unknown key; known here: {KEYS}"),
    ('"a\\nb": 1', f"t.yaml:1: a\\nb: unknown key; known here: {KEYS}"),
    ("'`a`.b[0]': 1", f"t.yaml:1: `a`.b[0]: unknown key; known here: {KEYS}"),
    # Types.
    ("[]", "t.yaml:1: expected mapping, got list"),
    ("# c\n\nhello", "t.yaml:3: expected mapping, got str"),
    ("3", "t.yaml:1: expected mapping, got int"),
    ("engine: 3", "t.yaml:1: engine: expected mapping, got int"),
    ("cars: 1\nengine:\n", "t.yaml:2: engine: expected mapping, got null"),
    ("spare: []", "t.yaml:1: spare: expected mapping | null, got list"),
    ("stops: a", "t.yaml:1: stops: expected list, got str"),
    ("stops:\n- a\n- 2", "t.yaml:3: stops[1]: expected str, got int"),
    ("stops: [a, 2024]", "t.yaml:1: stops[1]: expected str, got int"),
    ("name: 3", "t.yaml:1: name: expected str, got int"),
    ("name: no", "t.yaml:1: name: expected str, got bool"),
    ("name: 1e3", "t.yaml:1: name: expected str, got float"),
    ("cars: yes", "t.yaml:1: cars: expected int, got bool"),
    ("cars: 1.0", "t.yaml:1: cars: expected int, got float"),
    ("cars: '1'", "t.yaml:1: cars: expected int, got str"),
    ("cars: 010", "t.yaml:1: cars: expected int, got str"),
    ("cars: 1:30", "t.yaml:1: cars: expected int, got str"),
    ("cars: 2024-01-01", "t.yaml:1: cars: expected int, got str"),
    ("cars: ~", "t.yaml:1: cars: expected int, got null"),
    ("fast: 1", "t.yaml:1: fast: expected bool, got int"),
    ("length: yes", "t.yaml:1: length: expected float | null, got bool"),
    # Values.
    ("cars: 0", "t.yaml:1: cars: expected int >= 1"),
    ("engine:\n  power: -0.0", "t.yaml:2: engine.power: expected float > 0.0"),
    ("cars: 1\nengine: {kind: ox}", "t.yaml:2: engine.kind: invalid enum value 'ox'; expected one of diesel, steam"),
    ("grade: c", "t.yaml:1: grade: invalid enum value 'c'; expected one of a, b"),
    ("name: y\ncars: 101", "t.yaml:1: too many cars"),
    ("length: .nan", f"t.yaml:1: length: {NUMBER}"),
    ("length: .inf", f"t.yaml:1: length: {NUMBER}"),
    ("engine: {power: -.INF}", f"t.yaml:1: engine.power: {NUMBER}"),
    ("others: [{power: 1e999}]", f"t.yaml:1: others[0].power: {NUMBER}"),
    ("cars: 9223372036854775808", f"t.yaml:1: cars: {NUMBER}"),
    ("cars: 1\nlength: 0x" + "f" * 5000, f"t.yaml:2: length: {NUMBER}"),
    ("cars: " + "9" * 5000, f"t.yaml:1: cars: {NUMBER}"),
    ("length: 0." + "0" * 5000, f"t.yaml:1: length: {NUMBER}"),
    ('name: "\\0"', f"t.yaml:1: name: {TEXT}"),
    ('stops: ["\\ud800"]', f"t.yaml:1: stops[0]: {TEXT}"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text[:30].encode("unicode_escape").decode() for text, _ in BAD])
def test_bad_documents_in_exactly_these_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value) == message


class Order(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal[1]
    train: Train


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "o.yaml: version: required key is missing"),
        ("version: 1", "o.yaml:1: train: required key is missing"),
        ("train: {}\nversion: 2", "o.yaml:2: version: invalid enum value 2; expected 1"),
        ("version: true\ntrain: {}", "o.yaml:1: version: expected int, got bool"),
        ("version: 1.0\ntrain: {}", "o.yaml:1: version: expected int, got float"),
        ("version: 1\ntrain:\n  engine:\n    power: x\n", "o.yaml:4: train.engine.power: expected float, got str"),
    ],
)
def test_required_keys(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode_yaml(text, Order, source="o.yaml")
    assert str(caught.value) == message


def test_plain_values_have_no_lines() -> None:
    assert convert({"cars": 4}, Train, source="flags") == Train(cars=4)
    with pytest.raises(ConfigError, match=r"^flags: engine\.power: expected float, got str$"):
        convert({"engine": {"power": "1"}}, Train, source="flags")
    with pytest.raises(ConfigError, match=r"^flags: not text: "):
        convert({"engine": {"kind": "\udcff"}}, Train, source="flags")  # an argument of the process that is no UTF-8


def test_a_document_of_aliases_cannot_grow() -> None:
    """Nine levels of ten aliases each would be a billion values."""
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    started = time.perf_counter()
    with pytest.raises(ConfigError, match="a0: unknown key"):
        read(text)
    assert time.perf_counter() - started < 1
