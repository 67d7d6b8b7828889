"""Slurm's short forms."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.discovery.nodelist import MAX_NODES, expand, expand_counts


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", "a"),
        ("a,b", "a b"),
        ("gpu[01-03,07],login1", "gpu01 gpu02 gpu03 gpu07 login1"),
        ("n[9-11]", "n9 n10 n11"),
        ("n[09-11]", "n09 n10 n11"),
        ("n[098-101]-ib", "n098-ib n099-ib n100-ib n101-ib"),
        ("r[0-1]n[1,3]", "r0n1 r0n3 r1n1 r1n3"),
        ("[1-2]", "1 2"),
        ("n[5]", "n5"),
    ],
)
def test_names(text: str, names: str) -> None:
    assert expand(text) == tuple(names.split())


@pytest.mark.parametrize(
    "text",
    ["", ",a", "a,", "a,,b", "n[", "n]", "n[1", "n[1]]", "n[[1]]", "n[]", "n[1-]", "n[-1]", "n[a-b]", "n[2-1]", "n[1,]",
     "n[1-2-3]", "n[0x1]", "n[²]", " a", "-a"],
)  # fmt: skip
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|brackets|no node name"):
        expand(text)


@pytest.mark.parametrize("text", ["n[0-65536]", "n[0-999][0-999]", "n[0-99999],m[0-9]", "a[1-9999999999999999]"])
def test_more_nodes_than_a_cluster_has_are_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(ValueError, match="more than 65536 nodes"):
        expand(text)


def test_as_many_as_are_allowed() -> None:
    assert len(expand(f"n[1-{MAX_NODES}]")) == MAX_NODES


@pytest.mark.parametrize(("text", "counts"), [("4", (4,)), ("4(x2),3", (4, 4, 3)), ("1(x1),16(x3)", (1, 16, 16, 16))])
def test_counts(text: str, counts: tuple[int, ...]) -> None:
    assert expand_counts(text) == counts


@pytest.mark.parametrize("text", ["", "4,", "4x2", "4(2)", "(x2)", "-1", "4(x-1)", "4(x99999999)"])
def test_what_are_no_counts(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected counts|more than"):
        expand_counts(text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["n", "gpu-", "r1n"]),
            st.integers(1, 5),  # digits
            st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=4),
            st.sampled_from(["", "-ib", "x"]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_list_is_what_it_was_made_from(pieces: list[tuple[str, int, list[tuple[int, int]], str]]) -> None:
    written: list[str] = []
    names: list[str] = []
    for prefix, width, ranges, suffix in pieces:
        texts = [f"{low:0{width}}-{low + more:0{width}}" if more else f"{low:0{width}}" for low, more in ranges]
        written.append(f"{prefix}[{','.join(texts)}]{suffix}")
        names += [f"{prefix}{n:0{width}}{suffix}" for low, more in ranges for n in range(low, low + more + 1)]
    assert expand(",".join(written)) == tuple(names)


@given(st.text(alphabet="a[]-,019x( )"))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    for read in (expand, expand_counts):
        with contextlib.suppress(ValueError):
            assert read(text)
