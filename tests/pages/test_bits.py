"""Bitmaps against lists of booleans."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.pages import bits

_MAPS = st.one_of(
    st.binary(max_size=40),
    st.lists(st.tuples(st.sampled_from([0, 255, 1, 128]), st.integers(1, 9000)), max_size=4).map(
        lambda runs: b"".join(bytes([value]) * count for value, count in runs)
    ),
)


def _booleans(data: bytes) -> list[bool]:
    return [bool(byte >> bit & 1) for byte in data for bit in range(8)]


@given(_MAPS, st.data())
def test_runs_are_those_of_the_bits(data: bytes, draw: st.DataObject) -> None:
    length = 8 * len(data) + 20
    start = draw.draw(st.integers(0, length))
    stop = draw.draw(st.integers(start, length))
    expected = [*_booleans(data), *[False] * 20][start:stop]
    found = list(bits.runs(data, start, stop))
    assert [value for _, count, value in found for _ in range(count)] == expected
    assert all(a[2] != b[2] for a, b in pairwise(found)), "runs are as long as can be"
    assert [first for first, _, _ in found[1:]] == [first + count for first, count, _ in found[:-1]]


@given(st.binary(min_size=1, max_size=64), st.data())
def test_a_run_that_is_set_is_set_and_nothing_else(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, 8 * len(data)))
    count = draw.draw(st.integers(0, 8 * len(data) - start))
    value = draw.draw(st.booleans())
    changed = bytearray(data)
    bits.set_run(changed, start, count, value)
    expected = _booleans(data)
    expected[start : start + count] = [value] * count
    assert _booleans(bytes(changed)) == expected


@given(_MAPS, st.data())
def test_counting_is_counting(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, 8 * len(data)))
    stop = draw.draw(st.integers(start, 8 * len(data) + 9))
    assert bits.count(data, start, stop) == sum(_booleans(data)[start:stop])


@given(_MAPS, st.data())
def test_rank_counts_and_select_finds(data: bytes, draw: st.DataObject) -> None:
    rank, places = bits.Rank(data), [n for n, value in enumerate(_booleans(data)) if value]
    number = draw.draw(st.integers(0, 8 * len(data) + 9))
    assert rank[number] == sum(_booleans(data)[:number])
    assert rank.total == len(places)
    if places:
        wanted = draw.draw(st.integers(0, len(places) - 1))
        assert rank.select(wanted) == places[wanted]


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_maps_are_combined_bit_by_bit(first: bytes, second: bytes) -> None:
    pairs = list(zip(_booleans(first), _booleans(second), strict=False))
    assert _booleans(bits.both(first, second)) == [a and b for a, b in pairs]
    longer = [*_booleans(second), *[False] * 8 * len(first)]
    assert _booleans(bits.without(first, second)) == [
        a and not b for a, b in zip(_booleans(first), longer, strict=False)
    ]


@pytest.mark.parametrize("number", [0, 7, 8, 15, 16, 10**9])
def test_a_bit_behind_the_end_is_not_set(number: int) -> None:
    assert bits.test(b"\xff\xff", number) is (number < 16)
