"""Searching: the plain source, numba and the twins find the same, whatever is looked for."""

from __future__ import annotations

import re
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.kernels import searching as s
from phypan.kernels.twins import searching as twins

compiled = pytest.importorskip("phypan.kernels.compiled")

dense = st.lists(st.sampled_from([b"ab", b"a", b"b", b"\0", b"\0\0\0", b"x" * 40, b"~\t\x7f"]),
                 max_size=60).map(b"".join)  # fmt: skip


def told(function, data, *arguments, room: int = 7) -> list[int]:
    """All that a kernel writes, when `out` has little room."""
    plain = function.__module__ == s.__name__ and not hasattr(function, "py_func")
    out = array("q", bytes(8 * room)) if plain else np.zeros(room, np.int64)
    first, *rest = arguments
    found: list[int] = []
    while True:
        before = first
        count, first = function(data, first, *rest, out)
        found += list(out[:count])
        if count < room - 1:  # not full: that was all
            return [int(place) for place in found]
        assert first > before


@given(dense, st.sampled_from([b"a", b"ab", b"ba", b"aa", b"\0", b"b\0", b"abab", b"x" * 9]),
       st.integers(0, 5), st.data())  # fmt: skip
def test_patterns(data, needle, first, drawn) -> None:
    data = data * drawn.draw(st.integers(1, 30)) + b"-" * len(needle)
    last = len(data) - len(needle) + 1
    places = st.integers(0, len(needle) - 1)
    rare, other = drawn.draw(places), drawn.draw(places)
    expected = [n for n in range(first, last) if data.startswith(needle, n)]
    assert twins.pattern(data, first, last, needle) == expected
    for function, view in ((s.pattern, bytes), (compiled.find_pattern, np.frombuffer)):
        given_data, given_needle = (
            (view(part, np.uint8) if view is np.frombuffer else view(part))
            for part in (data, needle)
        )
        found = told(function, given_data, first, last, given_needle, rare, other)
        assert found == expected


@given(st.lists(st.integers(0, 5) | st.integers(0, (1 << 64) - 1), max_size=300),
       st.sampled_from([4, 8]), st.booleans(), st.integers(0, (1 << 64) - 1),
       st.integers(0, 9))  # fmt: skip
def test_numbers(values, size, big, low, span) -> None:
    values = [value % (1 << 8 * size) for value in values]
    low %= 1 << 8 * size
    if values and low % 2:
        low = values[low % len(values)]
    high = min(low + span, (1 << 8 * size) - 1)
    order = "big" if big else "little"
    data = b"".join(value.to_bytes(size, order) for value in values)
    expected = [n for n, value in enumerate(values) if low <= value <= high]
    assert twins.numbers(data, size, big, low, high) == expected
    words = np.frombuffer(data, f"u{size}")
    swap = size if big else 0
    plain = [int(word) for word in words]
    assert told(s.numbers, plain, 0, low, high, swap) == expected
    limits = np.uint64(low), np.uint64(high)
    assert told(compiled.find_numbers, words, 0, *limits, swap) == expected


@pytest.mark.parametrize(("size", "code"), [(4, "I"), (8, "Q")])
@given(word=st.integers(0, (1 << 64) - 1))
def test_words_are_turned(size, code, word) -> None:
    words = array(code, [word % (1 << 8 * size)])
    words.byteswap()
    assert s.ordered(word % (1 << 8 * size), size) == words[0]


@given(dense, st.sampled_from([(1, 0), (2, 0), (2, 1)]), st.integers(1, 6), st.integers(0, 3))
def test_texts(data, how, least, first) -> None:
    stride, letter = how
    if stride == 2:
        data = data.replace(b"ab", b"a\0b\0" if letter == 0 else b"\0a\0b")
    last = max(len(data) - (len(data) - first) % stride, first)
    unit = rb"[\t\x20-\x7e]" if stride == 1 else (rb"[\t\x20-\x7e]\0", rb"\0[\t\x20-\x7e]")[letter]
    fits = [bool(re.fullmatch(unit, data[n : n + stride])) for n in range(first, last, stride)]
    expected, at = [], 0
    while at < len(fits):
        end = next((n for n in range(at, len(fits)) if not fits[n]), len(fits))
        if end > at and (end - at >= least or at == 0 or end == len(fits)):
            expected += [first + at * stride, first + end * stride]
        at = end + 1
    pairs = twins.texts(memoryview(data)[:last], first, stride, letter, least)
    assert [place for pair in pairs for place in pair] == expected
    octets = np.frombuffer(data, np.uint8)
    for function, view in ((s.texts, data), (compiled.find_texts, octets)):
        out = np.zeros(1000, np.int64)
        count, _ = function(view, first, last, stride, letter, least, 1, out)
        assert out[:count].tolist() == expected


def test_texts_go_on_where_there_was_no_more_room() -> None:
    data = b"\0".join([b"text"] * 50)
    out, found, at, inside = array("q", bytes(8 * 7)), [], 0, 1
    while at < len(data):
        count, at = s.texts(data, at, len(data), 1, 0, 3, inside, out)
        found += out[:count]
        inside = 0
    assert found == [n for start in range(0, len(data), 5) for n in (start, start + 4)]
