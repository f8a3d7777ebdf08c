"""The flattened format: bytes written by hand, all values, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import flattened

# Written by hand from makedumpfile's makedumpfile.h: signature, type 1, version 1, zeros; a record
# of three bytes for file offset 0x10; the end.
HEAD = bytes.fromhex("6d616b6564756d7066696c6500000000 0000000000000001 0000000000000001") + bytes(
    4096 - 32
)
RECORD = bytes.fromhex("0000000000000010 0000000000000003") + b"abc"
END = b"\xff" * 16


def test_bytes_written_by_hand() -> None:
    flattened.check_header(HEAD)
    assert flattened.write_header() == HEAD
    assert flattened.read_record(RECORD, "") == (0x10, 3)
    assert flattened.write_record(0x10, 3) + b"abc" == RECORD
    assert flattened.read_record(END, "").is_end
    assert flattened.END == END


@given(st.integers(0, (1 << 62) - 1), st.integers(0, (1 << 62) - 1))
def test_what_is_written_is_read(offset: int, size: int) -> None:
    head = flattened.read_record(flattened.write_record(offset, size), "")
    assert head == (offset, size)
    assert not head.is_end


@given(st.binary(min_size=0, max_size=40))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    try:
        head = flattened.read_record(data, "byte 0")
    except BadRecord:
        return
    assert head.is_end or (head.offset >= 0 and head.size >= 0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD[:4095],
        b"M" + HEAD[1:],
        HEAD[:23] + b"\2" + HEAD[24:],
        HEAD[:31] + b"\2" + HEAD[32:],
    ],
)
def test_another_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadRecord):
        flattened.check_header(data)
