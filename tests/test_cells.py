"""Cells: what people read and what JSON has, of every kind of value that a row may hold."""

from __future__ import annotations

import json
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import cells
from phypan.rows import Show


@pytest.mark.parametrize(
    ("value", "show", "text"),
    [
        (1023, Show(unit="B"), "1023 B"),
        (1024, Show(unit="B"), "1 KiB"),
        (1 << 20, Show(unit="B"), "1 MiB"),
        (1342177280, Show(unit="B"), "1.25 GiB"),
        (1 << 60, Show(unit="B"), "1024 PiB"),
        (255, Show(base=16), "ff"),
        (255, Show(base=16, width=8), "000000ff"),
        (-255, Show(base=16, width=8), "-ff"),
        (7, Show(), "7"),
    ],
)
def test_numbers(value, show, text) -> None:
    assert cells.cell(value, show) == text


@pytest.mark.parametrize(
    ("value", "show", "text"),
    [
        (None, Show(unit="B"), "-"),
        (True, None, "yes"),
        (False, None, "no"),
        (True, Show(base=16), "yes"),
        (12, None, "12"),
        ((1024, None, 16), Show(unit="B"), "1 KiB, -, 16 B"),
        ([], None, ""),
        ("\x1b[2J", None, "\\x1b[2J"),
        (("a\nb",), None, "a\\nb"),
    ],
)
def test_cells(value, show, text) -> None:
    assert cells.cell(value, show) == text


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (b"\0\xff", "00ff"),
        ((1, (b"a", None)), [1, ["61", None]]),
        (frozenset({3}), [3]),
        (float("nan"), None),
        (float("-inf"), None),
        (0.5, 0.5),
        (True, True),
        (1 << 64, 1 << 64),
        (Colour.RED, "Colour.RED"),
    ],
)
def test_what_json_has(value, plain) -> None:
    assert cells.plain(value) == plain
    assert type(cells.plain(value)) is type(plain)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0x0"),
        (0xC000000000000001, "0xc000000000000001"),
        (None, None),
        ((1, None), ["0x1", None]),
    ],
)
def test_hexadecimal(value, text) -> None:
    assert cells.hexadecimal(value) == text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner).map(tuple) | st.lists(inner))


@given(VALUES, st.none() | st.just(Show(unit="B")) | st.just(Show(base=16, width=16)))
def test_any_value_is_a_line_of_text_and_json(value, show) -> None:
    assert cells.cell(value, show).isprintable()
    json.dumps(cells.plain(value), allow_nan=False)


@given(st.integers())
def test_a_hexadecimal_number_is_exact(value) -> None:
    assert int(cells.cell(value, Show(base=16, width=16)), 16) == value
    assert int(cells.hexadecimal(value), 16) == value
