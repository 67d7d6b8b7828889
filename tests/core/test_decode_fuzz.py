"""Nothing but ConfigError ever comes out of the decoder; what the encoder writes comes back."""

from __future__ import annotations

from decode_world import Engine, Train, read
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ft_horovod.core.config import RunConfig
from ft_horovod.core.decode import decode_yaml, encode_yaml
from ft_horovod.core.errors import ConfigError
from ft_horovod.core.schedule import FaultSchedule

# Any text, texts of YAML's own characters, and documents that are nearly right.

YAML_CHARACTERS = st.text(alphabet=list("{}[]:,-?!&*|>'\"%@`#~=<. \n\t\\/_0159axeEbn+\x85\u2028"), max_size=60)
VALID = """\
version: 1
seed: 7
faults:
  - {kind: kill, at: {step: 40, within: 0.5}, target: {worker: 2}}
  - kind: hang
    at: &when {time_s: 30}
    target: {random: true}
    duration_s: 1.5
  - {kind: kill, at: {every: {mtbf_s: 2e1, distribution: weibull, shape: 0.7}}, target: {random: true}, count: 10}
  - {kind: join, at: *when}
"""
PIECES = ["[", "]", "{", "}", ":", ": ", "- ", "\n", "\n  ", "&a ", "*a", "!!", "!!int ", "'", '"', "\\", "#", "---\n",
          "? ", "| ", "> ", "%", "~", "true", ".nan", "-.inf", "1e999", "-1", "0x", "0b", "9" * 30, "2024-99-99",
          "<<: ", "\x00", "\ud800", "\u2028", "1:99", "=", ",", "\t"]  # fmt: skip


def check_outcome(text: str, kind: type[object]) -> None:
    try:
        value = decode_yaml(text, kind, source="f.yaml")
    except ConfigError as error:
        check_words(error, text)
    else:
        assert isinstance(value, kind)


def check_words(error: ConfigError, text: str) -> None:
    message = str(error)
    assert message.startswith("f.yaml:")
    assert message.isprintable()
    assert error.problem
    assert error.line is None or 1 <= error.line <= len((text + "\nx").splitlines())
    assert "`" not in error.problem or "`" in text


@settings(max_examples=1000)
@given(st.text() | YAML_CHARACTERS, st.sampled_from([Train, FaultSchedule, RunConfig]))
@example("!", Train)
@example("? ", Train)
@example("- - - -", FaultSchedule)
@example('"\\x', Train)
def test_any_text_gives_a_value_or_a_config_error(text: str, kind: type[object]) -> None:
    check_outcome(text, kind)


edits = st.lists(
    st.tuples(st.integers(0, len(VALID)), st.integers(0, 6), st.sampled_from(PIECES) | st.text(max_size=3)), max_size=4
)


@settings(max_examples=1000)
@given(edits)
def test_documents_that_are_nearly_right(changes: list[tuple[int, int, str]]) -> None:
    text = VALID
    for at, cut, piece in changes:
        text = text[:at] + piece + text[at + cut :]
    check_outcome(text, FaultSchedule)


def test_the_document_before_any_change_is_right() -> None:
    assert len(decode_yaml(VALID, FaultSchedule, source="f.yaml").faults) == 4


numbers = st.floats(-1e15, 1e15) | st.integers(-(2**53), 2**53).map(float)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")) | st.sampled_from(
    [
        "",
        "1e3",
        "010",
        "1:30",
        ".inf",
        ".nan",
        "no",
        "null",
        "~",
        "=",
        "<<",
        "0x1F",
        "2024-01-01",
        "- a",
        "a: b",
        "#",
        "&a",
    ]
)
engines = st.builds(Engine, st.sampled_from(["steam", "diesel"]), st.floats(0, 1e18, exclude_min=True, allow_nan=False))
trains = st.builds(
    Train,
    name=texts,
    cars=st.integers(1, 100),
    fast=st.booleans(),
    engine=engines,
    spare=st.none() | engines,
    others=st.lists(engines, max_size=3).map(tuple),
    stops=st.lists(texts, max_size=4).map(tuple),
    length=st.none() | numbers,
    grade=st.sampled_from([None, "a", "b"]),
)


@given(trains)
def test_what_is_written_is_read_back(train: Train) -> None:
    assert read(encode_yaml(train)) == train


def test_what_is_written_reads_well() -> None:
    engine = Engine()
    text = encode_yaml(Train(name="Zürich", others=(engine, engine), length=1e-5))
    assert "name: Zürich\n" in text
    assert "&" not in text
    assert text.index("name:") < text.index("cars:") < text.index("grade:")
