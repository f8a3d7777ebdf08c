"""Where errors of Construct and struct become phypan's."""

from __future__ import annotations

import struct

import pytest
from construct import Const, Int16ub, Int32ub
from construct import Struct as Record
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import _records

RECORD = Record("magic" / Const(b"AB"), "number" / Int16ub, "more" / Int32ub)


def test_a_record_is_parsed_and_built() -> None:
    data = b"AB\0\1\0\0\0\2"
    record = _records.parse(RECORD, memoryview(data + b"tail"), "here")
    assert (record.number, record.more) == (1, 2)
    assert _records.build(RECORD, {"magic": b"AB", "number": 1, "more": 2}) == data


def test_what_cannot_be_parsed_is_ours_and_says_where() -> None:
    with pytest.raises(BadRecord, match="here: 3 bytes where 8 are needed") as caught:
        _records.parse(RECORD, b"AB\0", "here")
    assert caught.value.hint
    with pytest.raises(BadRecord, match="here: ") as caught:
        _records.parse(RECORD, b"XY\0\1\0\0\0\2", "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "record",
    [
        {"number": 1 << 16, "more": 0},
        {"number": -1, "more": 0},
        {"number": 1},
        {"number": "x", "more": 0},
    ],
)
def test_what_cannot_be_built_is_ours(record) -> None:
    with pytest.raises(BadRecord):
        _records.build(RECORD, {"magic": b"AB", **record})


def test_what_cannot_be_packed_is_ours() -> None:
    assert _records.pack(struct.Struct(">HH"), 1, 2) == b"\0\1\0\2"
    with pytest.raises(BadRecord, match="there"):
        _records.pack(struct.Struct(">HH"), 1, 1 << 16, where="there")


@given(st.integers(0, 1 << 64), st.sampled_from([1, 2, 4, 8, 4096, 65536]))
def test_aligned_is_the_next_multiple(value, unit) -> None:
    aligned = _records.align(value, unit)
    assert aligned % unit == 0
    assert 0 <= aligned - value < unit
