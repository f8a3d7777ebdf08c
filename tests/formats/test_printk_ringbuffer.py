"""The log since 5.10: rings put together here as printk_ringbuffer.h declares them."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord, PhypanError
from phypan.formats import printk_ringbuffer as ringbuffer
from phypan.formats.vmcoreinfo import Vmcoreinfo
from tests.damage import flipped

NUMBERS = {
    "SIZE(prb_desc)": 24,
    "OFFSET(prb_desc.state_var)": 0,
    "OFFSET(atomic_long_t.counter)": 0,
    "OFFSET(prb_desc.text_blk_lpos)": 8,
    "OFFSET(prb_data_blk_lpos.begin)": 0,
    "OFFSET(prb_data_blk_lpos.next)": 8,
    "SIZE(printk_info)": 88,
    "OFFSET(printk_info.seq)": 0,
    "OFFSET(printk_info.ts_nsec)": 8,
    "OFFSET(printk_info.text_len)": 16,
    "OFFSET(printk_info.caller_id)": 20,
    "SIZE(printk_ringbuffer)": 80,
    "OFFSET(printk_ringbuffer.desc_ring)": 0,
    "OFFSET(prb_desc_ring.count_bits)": 0,
    "OFFSET(prb_desc_ring.descs)": 8,
    "OFFSET(prb_desc_ring.infos)": 16,
    "OFFSET(prb_desc_ring.head_id)": 24,
    "OFFSET(prb_desc_ring.tail_id)": 32,
    "OFFSET(printk_ringbuffer.text_data_ring)": 48,
    "OFFSET(prb_data_ring.size_bits)": 0,
    "OFFSET(prb_data_ring.data)": 8,
}
BITS, TEXT_BITS = 3, 8
FINALIZED = 2 << 62


def told(**changes: int) -> Vmcoreinfo:
    numbers = {**NUMBERS, **changes}
    return Vmcoreinfo("".join(f"{key}={number}\n" for key, number in numbers.items()).encode())


class Log:
    """A writer as the kernel is one: each message takes a descriptor, an info and a block."""

    def __init__(self, order: str, first: int) -> None:
        self.o = "<" if order == "little" else ">"
        self.order, self.first, self.next = order, first, first
        self.descs, self.infos = bytearray(24 << BITS), bytearray(88 << BITS)
        self.text, self.at = bytearray(1 << TEXT_BITS), 0

    def store(self, text: bytes, when: int, level: int) -> None:
        slot, size = self.next % (1 << BITS), 8 + -(-len(text) // 8) * 8
        begin = self.at
        start = begin % len(self.text)
        if start + size > len(self.text):  # it begins again, and the block is said to begin here
            end, start = begin - start + len(self.text) + size, 0
        else:
            end = begin + size
        self.at = end
        struct.pack_into(self.o + "Q", self.text, start, self.next)
        self.text[start + 8 : start + 8 + len(text)] = text
        state = FINALIZED | self.next
        struct.pack_into(self.o + "3Q", self.descs, 24 * slot, state, begin, end)
        bits = level << 5 if self.order == "little" else level
        about = (self.next, when, len(text), 1, bits, 0x80000003)
        struct.pack_into(self.o + "QQHBBI", self.infos, 88 * slot, *about)
        self.next += 1

    @property
    def rings(self) -> ringbuffer.Rings:
        oldest = max(self.first, self.next - (1 << BITS))
        return ringbuffer.Rings(BITS, 0, 0, self.next - 1, oldest, TEXT_BITS, 0)

    def read(self, info: Vmcoreinfo | None = None, **parts):
        problems: list[str] = []
        given = {"rings": self.rings, "descs": self.descs, "infos": self.infos, "text": self.text}
        found = list(
            ringbuffer.read_lockless(
                **{**given, **parts},
                info=info or told(),
                order=self.order,
                problem=problems.append,
            )
        )
        return found, problems


messages = st.lists(
    st.tuples(st.binary(max_size=24), st.integers(0, (1 << 64) - 1), st.integers(0, 7)), max_size=8
)
FIRST = st.sampled_from([0, 1, 7, 8, 1 << 32, (1 << 62) - 30])


@given(messages, st.sampled_from(["little", "big"]), FIRST)
def test_any_messages_in_a_ring_that_may_have_come_round(written, order, first) -> None:
    log = Log(order, first)
    log.at = 32 * (first % 8)
    for text, when, level in written:
        log.store(text, when, level)
    if not written:
        return
    found, problems = log.read()
    assert problems == []
    assert [(r.time, r.level, r.text.encode("latin1", "ignore")) for r in found] == [
        (when, level, text.decode("utf-8", "backslashreplace").encode("latin1", "ignore"))
        for text, when, level in written
    ]
    assert {(r.facility, r.caller) for r in found} == {(1, "C3")}


@pytest.mark.parametrize(("behind", "at"), [(256, 240), (256 + 16, 0)])
def test_a_block_that_just_fits_the_end_of_the_ring(behind, at) -> None:
    """Some kernels leave it there, others put it at the beginning."""
    log = Log("little", 5)
    log.at = 240
    log.store(b"the end", 1, 6)
    struct.pack_into("<QQ", log.descs, 24 * 5 + 8, 240, behind)
    log.text = bytearray(256)
    struct.pack_into("<Q7s", log.text, at, 5, b"the end")
    found, problems = log.read()
    assert ([r.text for r in found], problems) == (["the end"], [])


def full(order: str = "little") -> Log:
    log = Log(order, 5)
    for number in range(8):
        log.store(b"message %d" % number, number, 6)
    return log


def test_the_oldest_are_gone_when_there_were_more_than_descriptors() -> None:
    log = full()
    log.store(b"one more", 9, 6)
    assert [r.text for r in log.read()[0]] == [f"message {n}" for n in range(1, 8)] + ["one more"]


def test_a_message_whose_text_is_overwritten_is_counted() -> None:
    log = full()
    log.text[24:32] = bytes(8)  # the owner of the second block
    found, problems = log.read()
    assert len(found) == 7
    assert problems == ["1 messages of 8 cannot be read"]


def test_what_was_just_written_is_no_problem() -> None:
    log = full()
    struct.pack_into("<Q", log.descs, 24 * ((log.next - 1) % 8), log.next - 1)  # reserved
    found, problems = log.read()
    assert (len(found), problems) == (7, [])


def test_the_head_of_all_is_read() -> None:
    for order, o in (("little", "<"), ("big", ">")):
        data = bytearray(80)
        struct.pack_into(o + "I4xQQQQ", data, 0, 13, 0xC1, 0xC2, 1 << 63, 7)
        struct.pack_into(o + "I4xQ", data, 48, 17, 0xC3)
        found = ringbuffer.read_rings(bytes(data), told(), order)
        assert found == ringbuffer.Rings(13, 0xC1, 0xC2, 1 << 63, 7, 17, 0xC3)
        assert (found.count, found.text_size) == (8192, 131072)


@pytest.mark.parametrize("bits", [0, 33, 64, (1 << 32) - 1])
def test_absurd_sizes_are_refused(bits) -> None:
    data = struct.pack("<I4x4QQI4xQQQ", bits, 1, 2, 3, 4, 0, 10, 5, 0, 0)
    with pytest.raises(BadRecord, match="rings of 2"):
        ringbuffer.read_rings(data, told(), "little")


@given(st.binary(max_size=90))
def test_any_bytes_are_a_head_or_refused(data) -> None:
    try:
        found = ringbuffer.read_rings(data, told(), "big")
        assert 0 < found.count_bits <= ringbuffer.MAX_BITS
    except BadRecord:
        pass


@pytest.mark.parametrize("order", ["little", "big"])
@given(data=st.data())
def test_damaged_rings_give_messages_or_a_problem(order, data) -> None:
    log = full(order)
    parts = {name: data.draw(flipped(bytes(getattr(log, name)))) for name in
             ("descs", "infos", "text")}  # fmt: skip
    found, problems = log.read(**parts)
    assert len(found) <= 8
    assert len(found) >= 6 or problems


WILD = st.sampled_from([-1, 0, 1, 7, 16, 20, 24, 80, 88, 4096, 1 << 31, 1 << 63])


@given(st.dictionaries(st.sampled_from(sorted(NUMBERS)), WILD, max_size=4))
def test_wild_numbers_in_vmcoreinfo_are_refused(changes) -> None:
    log = full()
    try:
        found, _ = log.read(told(**changes))
        assert len(found) <= 8
        ringbuffer.read_rings(bytes(80), told(**changes), "little")
    except PhypanError:
        pass


@pytest.mark.parametrize("tail", [0, 3, 1 << 31, (1 << 62) - 1])
def test_four_thousand_million_descriptors_that_are_not_there_take_no_time(tail) -> None:
    log = full()
    rings = ringbuffer.Rings(32, 0, 0, (1 << 62) - 2, tail, 32, 0)
    start = time.process_time()
    found, problems = log.read(rings=rings)
    assert time.process_time() - start < 1
    assert len(found) <= 8
    assert "of 4294967296 cannot be read" in problems[0]
