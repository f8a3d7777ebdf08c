"""The log until 5.9: characters, and records with a header; and what is carved of a damaged one.

The records are put together here as kernel/printk/printk.c of 3.5 to 5.9 has struct printk_log.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord, PhypanError
from phypan.formats import printk
from phypan.formats.vmcoreinfo import Vmcoreinfo
from tests.damage import flipped

INFO = """SIZE({name})=16
OFFSET({name}.ts_nsec)=0
OFFSET({name}.len)=8
OFFSET({name}.text_len)=10
OFFSET({name}.dict_len)=12
"""
NEW, OLD = (Vmcoreinfo(INFO.format(name=name).encode()) for name in ("printk_log", "log"))
# One of each by hand: facility 3 level 6 flags 2 (LOG_NEWLINE) at 1.000002 s, dictionary "A=B"
LITTLE = bytes.fromhex("d0d19a3b00000000 2000 0500 0300 03 c2") + b"hello" + b"A=B" + bytes(8)
BIG = bytes.fromhex("000000003b9ad1d0 0020 0005 0003 03 16") + b"hello" + b"A=B" + bytes(8)


def record(order: str, text: bytes, *, time=0, level=6, flags=2, facility=0, extra=b"") -> bytes:
    o = "<" if order == "little" else ">"
    bits = level << 5 | flags if order == "little" else flags << 3 | level
    size = -(-(16 + len(text) + len(extra)) // 8) * 8
    head = struct.pack(o + "QHHHBB", time, size, len(text), len(extra), facility, bits)
    return (head + text + extra).ljust(size, b"\0")


def read(ring: bytes, first: int, behind: int, order: str = "little", info=NEW) -> tuple:
    problems: list[str] = []
    found = list(printk.read_records(ring, first, behind, info, order, problems.append))
    return found, problems


@pytest.mark.parametrize(("order", "data"), [("little", LITTLE), ("big", BIG)])
@pytest.mark.parametrize("info", [NEW, OLD])
def test_a_record_byte_by_byte(order, data, info) -> None:
    found, problems = read(data, 0, 32, order, info)
    assert found == [printk.Record(None, 1000002000, 6, 3, None, "hello", 2)]
    assert problems == []


texts = st.binary(max_size=40).filter(lambda text: b"\0" not in text)


@given(st.lists(st.tuples(texts, st.integers(0, (1 << 63) - 1), st.integers(0, 7)), max_size=12),
       st.sampled_from(["little", "big"]), st.integers(0, 12))  # fmt: skip
def test_any_messages_in_a_ring_that_may_have_come_round(messages, order, turn) -> None:
    turn = min(turn, len(messages))
    packed = [record(order, text, time=time, level=level) for text, time, level in messages]
    # the first ones are at the end of the ring, the others from its beginning on
    before, after = b"".join(packed[turn:]), b"".join(packed[:turn])
    mark = bytes(16)  # of length 0: go on at the beginning
    ring = before + bytes(24) + after + mark
    first = len(before) + 24 if turn else 0
    found, problems = read(ring, first, len(before), order)
    assert problems == []
    assert [(r.time, r.level) for r in found] == [(time, level) for _, time, level in messages]
    assert [r.text for r in found] == [printk.decoded(text) for text, _, _ in messages]


def test_pieces_of_a_line_are_joined() -> None:
    pieces = [("a", 8), ("b", 8), ("c", 2), ("d", 8), ("e", 6)]
    made = [printk.Record(None, 0, 6, 0, None, text, flags) for text, flags in pieces]
    assert [r.text for r in printk.joined(iter(made))] == ["abc", "d", "e"]


@pytest.mark.parametrize(
    ("ring", "first", "behind"),
    [
        (bytes(64), 0, 32),  # nothing but marks of the end
        (LITTLE, 24, 8),  # a header cut off
        (LITTLE, 1 << 31, 8),
        (LITTLE[:8] + b"\x04" + LITTLE[9:], 0, 32),  # shorter than its header
        (LITTLE[:8] + b"\xff\xff" + LITTLE[10:], 0, 32),  # longer than the ring
    ],
)
def test_a_ring_that_makes_no_sense_is_a_problem(ring, first, behind) -> None:
    found, problems = read(ring, first, behind)
    assert found == []
    assert len(problems) == 1


def test_a_chain_that_misses_its_end_is_left() -> None:
    """log_next_idx lies within a record: it would go round and round."""
    ring = record("little", b"a" * 8) * 4 + bytes(16)
    found, _ = read(ring, 0, 12)
    assert len(found) <= 6


@given(flipped(LITTLE * 4 + bytes(16)), st.integers(0, 200), st.integers(0, 200))
def test_a_damaged_ring_gives_messages_or_a_reason(ring, first, behind) -> None:
    read(ring, first, behind)


@given(st.lists(st.sampled_from([0, 1, 8, 15, 16, 17, 4096, 1 << 31, 1 << 63, -1]), min_size=5,
                max_size=5))  # fmt: skip
def test_wild_numbers_in_vmcoreinfo_are_refused(numbers) -> None:
    keys = ("SIZE(printk_log)", *(f"OFFSET(printk_log.{name})" for name in
            ("ts_nsec", "len", "text_len", "dict_len")))  # fmt: skip
    lines = "".join(f"{key}={number}\n" for key, number in zip(keys, numbers, strict=True))
    try:
        found, _ = read(LITTLE * 4, 0, 96, info=Vmcoreinfo(lines.encode()))
        assert len(found) <= len(LITTLE) * 4
    except PhypanError:
        pass


def test_without_its_layout_nothing_is_read() -> None:
    with pytest.raises(BadRecord, match="layout"):
        read(LITTLE, 0, 32, info=Vmcoreinfo(b"SIZE(printk_log)=16\n"))


# --- characters ---------------------------------------------------------------------------------


def test_characters_as_2_6_32_has_them() -> None:
    ring = b"<6>[    0.000001] one\n<14>two\nthree\n<4>[12345.678901] four\n"
    found = list(printk.read_text(ring, len(ring), len(ring)))
    assert [(r.level, r.facility, r.time, r.text) for r in found] == [
        (6, 0, 1000, "one"),
        (6, 1, None, "two"),
        (None, None, None, "three"),
        (4, 0, 12345678901000, "four"),
    ]


lines = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20)


@given(st.lists(lines.filter(lambda line: line[0] not in "<["), min_size=1, max_size=8),
       st.integers(0, 300))  # fmt: skip
def test_characters_that_came_round_begin_where_the_oldest_is(written, spare) -> None:
    text = "".join(f"<6>{line}\n" for line in written).encode()
    size = len(text) + spare
    end = size * 3 + 7
    ring = bytearray(size)
    for number, byte in enumerate(text):
        ring[(end - len(text) + number) % size] = byte
    found = list(printk.read_text(bytes(ring), end, len(text)))
    assert [r.text for r in found] == written


@given(st.binary(max_size=100), st.integers(0, 1 << 32), st.integers(0, 1 << 32))
def test_any_characters_and_counts_are_read(ring, end, count) -> None:
    assert sum(len(r.text) for r in printk.read_text(ring, end, count)) <= 4 * len(ring)


# --- carving ------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_what_is_carved_is_text_that_stands_there(data) -> None:
    for found in printk.carve(data):
        assert found.text.encode() in data


def test_messages_are_carved_in_their_order() -> None:
    data = b"\1\2[    1.000000] panic\0\0short\0<3>and more of it\xff"
    assert [(r.time, r.text) for r in printk.carve(data)] == [
        (10**9, "panic"),
        (None, "and more of it"),
    ]
