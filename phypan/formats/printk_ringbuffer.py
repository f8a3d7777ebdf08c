"""The kernel's log since 5.10: descriptors, infos and text in three rings, without locks.

Linux kernel/printk/printk_ringbuffer.c and .h. What the structures look like VMCOREINFO tells.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes
from phypan.formats.printk import (
    Problems,
    Record,
    caller_name,
    decoded,
    flags_and_level,
    member_at,
)
from phypan.formats.vmcoreinfo import Vmcoreinfo

_COMMITTED, _FINALIZED, _STATE_SHIFT = 1, 2, 62  # states of a descriptor, in its top two bits
_NO_TEXT = 1  # a position that is odd stands for no text
MAX_BITS = 32  # log2 of descriptors or bytes in a ring


@dataclass(frozen=True)
class Rings:
    """struct printk_ringbuffer: addresses are effective, ids and positions as they stand there."""

    count_bits: int
    descs: int
    infos: int
    head_id: int
    tail_id: int
    text_bits: int
    text: int

    @property
    def count(self) -> int:
        """Descriptors and infos."""
        return 1 << self.count_bits

    @property
    def text_size(self) -> int:
        """Bytes of text."""
        return 1 << self.text_bits


def read_rings(data: Bytes, info: Vmcoreinfo, order: ByteOrder) -> Rings:
    """The struct printk_ringbuffer in `data`; BadRecord if it is none."""

    def word(name: str, size: int = 8) -> int:
        outer, inner = name.split("/")
        parts = (f"printk_ringbuffer.{outer}", f"prb_{outer.replace('text_', '')}.{inner}")
        places = [info.offset(part) for part in parts]
        if None in places:
            raise BadRecord(f"no offset of {name}", where="VMCOREINFO")
        at = sum(place or 0 for place in places)
        if at + size > len(data):
            raise BadRecord(f"{name} at byte {at:#x} of {len(data):#x}", where="printk_ringbuffer")
        return int.from_bytes(data[at : at + size], order)

    found = Rings(
        count_bits=word("desc_ring/count_bits", 4),
        descs=word("desc_ring/descs"),
        infos=word("desc_ring/infos"),
        head_id=word("desc_ring/head_id"),
        tail_id=word("desc_ring/tail_id"),
        text_bits=word("text_data_ring/size_bits", 4),
        text=word("text_data_ring/data"),
    )
    if not 0 < found.count_bits <= MAX_BITS or not 0 < found.text_bits <= MAX_BITS:
        what = f"rings of 2^{found.count_bits} messages and 2^{found.text_bits} bytes"
        raise BadRecord(what, where="printk_ringbuffer")
    return found


@dataclass(frozen=True)
class _Layout:
    desc_size: int
    state: int
    begin: int
    next: int
    info_size: int
    seq: int
    time: int
    length: int
    caller: int


def _layout(info: Vmcoreinfo) -> _Layout:
    def size(name: str) -> int:
        found = info.size(name)
        if found is None:
            raise BadRecord(f"no size of {name}", where="VMCOREINFO")
        return found

    desc, about = size("prb_desc"), size("printk_info")
    block = member_at(info, "prb_desc.text_blk_lpos", desc, 16)
    state = member_at(info, "prb_desc.state_var", desc, 8)
    return _Layout(
        desc_size=desc,
        state=state + member_at(info, "atomic_long_t.counter", desc - state, 8),
        begin=block + member_at(info, "prb_data_blk_lpos.begin", desc - block, 8),
        next=block + member_at(info, "prb_data_blk_lpos.next", desc - block, 8),
        info_size=about,
        seq=member_at(info, "printk_info.seq", about, 8),
        time=member_at(info, "printk_info.ts_nsec", about, 8),
        length=member_at(info, "printk_info.text_len", about, 4),
        caller=member_at(info, "printk_info.caller_id", about, 4),
    )


def read_lockless(
    rings: Rings,
    descs: Bytes,
    infos: Bytes,
    text: Bytes,
    info: Vmcoreinfo,
    order: ByteOrder,
    problem: Problems,
) -> Iterator[Record]:
    """The messages from the oldest to the newest.

    descs, infos, text  the three rings; what is cut off of them is lost
    """
    layout, o = _layout(info), STRUCT_ORDER[order]
    mask, lost, number = (1 << _STATE_SHIFT) - 1, 0, -1
    count = min((rings.head_id - rings.tail_id & mask) + 1, rings.count)
    slots = min(len(descs) // layout.desc_size, len(infos) // layout.info_size)
    while (number := number + 1) < count:
        identifier = rings.tail_id + number & mask
        slot = identifier % rings.count
        if slot >= slots:  # all up to the first slot again: they may be very many
            skipped = min(rings.count - slot, count - number)
            lost, number = lost + skipped, number + skipped - 1
            continue
        desc, about = slot * layout.desc_size, slot * layout.info_size
        (state,) = struct.unpack_from(o + "Q", descs, desc + layout.state)
        if state & mask != identifier or state >> _STATE_SHIFT not in (_COMMITTED, _FINALIZED):
            lost += number not in (0, count - 1)  # these two may just be in use
            continue
        (begin,) = struct.unpack_from(o + "Q", descs, desc + layout.begin)
        (behind,) = struct.unpack_from(o + "Q", descs, desc + layout.next)
        body = _block(text, rings.text_size, begin, behind, identifier, o)
        if body is None:
            lost += 1
            continue
        yield _info(infos, about, layout, body, order)
    if lost:
        problem(f"{lost} messages of {count} cannot be read")


def _block(
    text: Bytes, size: int, begin: int, behind: int, identifier: int, o: str
) -> memoryview | None:
    """The text of a message, with the padding behind it; None if it is not there any more."""
    if begin & _NO_TEXT:
        return memoryview(b"")
    last = behind - 1  # a block may end where the ring does
    start, end = begin % size, last % size + 1
    if begin // size != last // size:  # it did not fit behind the others, and begins the ring
        start = 0
    if end - start < 8 or end > len(text):
        return None
    (owner,) = struct.unpack_from(o + "Q", text, start)
    return memoryview(text)[start + 8 : end] if owner == identifier else None


def _info(infos: Bytes, at: int, layout: _Layout, body: memoryview, order: ByteOrder) -> Record:
    o = STRUCT_ORDER[order]
    (seq,) = struct.unpack_from(o + "Q", infos, at + layout.seq)
    (time,) = struct.unpack_from(o + "Q", infos, at + layout.time)
    length, facility, bits = struct.unpack_from(o + "HBB", infos, at + layout.length)
    (caller,) = struct.unpack_from(o + "I", infos, at + layout.caller)
    flags, level = flags_and_level(bits, order)
    return Record(seq, time, level, facility, caller_name(caller), decoded(body[:length]), flags)
