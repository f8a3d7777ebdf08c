"""The kernel's log, in the three forms that it has had.

    text ring   until 3.4: characters, each line with "<level>" before it
    records     3.5 to 5.9: struct printk_log (struct log at first) and the text behind it
    lockless    since 5.10: descriptors, infos and text in three rings, printk_ringbuffer.h

Linux kernel/printk/printk.c, printk_ringbuffer.c. What the structures look like VMCOREINFO tells;
facility, flags and level stand in two bytes behind the last length in both later forms.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from phypan.errors import BadRecord
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes
from phypan.formats.vmcoreinfo import Vmcoreinfo

LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_CONT, _PREFIX = 8, 4  # LOG_CONT: a piece of a line; LOG_PREFIX: the beginning of one
_COMMITTED, _FINALIZED, _STATE_SHIFT = 1, 2, 62  # states of a descriptor, in its top two bits
_NO_TEXT = 1  # a position that is odd stands for no text
MAX_BITS = 32  # log2 of descriptors or bytes in a ring

Problems = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Record:
    """One message. What a kernel does not keep is None.

    seq     its number, counted from boot
    time    nanoseconds since boot
    level   0 emerg to 7 debug
    caller  as printk.caller shows it: T and a thread id, or C and a CPU
    """

    seq: int | None
    time: int | None
    level: int | None
    facility: int | None
    caller: str | None
    text: str
    flags: int = 0


def _text(data: Bytes) -> str:
    return bytes(data).decode("utf-8", "backslashreplace")


# --- text ring ----------------------------------------------------------------------------------

_LINE = re.compile(rb"(?:<(\d{1,3})>)?(?:\[ *(\d+)\.(\d{6})\] ?)?(.*)", re.DOTALL)


def read_text(ring: Bytes, end: int, count: int) -> Iterator[Record]:
    """The lines in a ring of characters.

    end    log_end: the number of characters ever written
    count  logged_chars: how many of them are still there
    """
    size = len(ring)
    if not size:
        return
    count = min(count, size, end)
    start = (end - count) % size
    text = (bytes(ring[start:]) + bytes(ring[:start]))[:count]
    for line in text.split(b"\n"):
        if line:
            yield _line(line)


def _line(line: bytes) -> Record:
    match = _LINE.fullmatch(line)
    assert match  # every part of it may be missing
    level, seconds, micros, rest = match.groups()
    time = None if seconds is None else int(seconds) * 10**9 + int(micros) * 1000
    number = None if level is None else int(level)
    return Record(
        seq=None,
        time=time,
        level=None if number is None else number & 7,
        facility=None if number is None else number >> 3,
        caller=None,
        text=_text(rest),
    )


# --- records ------------------------------------------------------------------------------------


def _flags(byte: int, order: ByteOrder) -> tuple[int, int]:
    """(flags, level) of the byte that holds them as bit fields: 5 bits and 3."""
    return (byte & 0x1F, byte >> 5) if order == "little" else (byte >> 3, byte & 7)


def _caller(number: int) -> str | None:
    """The thread or CPU that a caller_id names."""
    if not number:
        return None
    return f"C{number & 0x7FFFFFFF}" if number >> 31 else f"T{number}"


def read_records(
    ring: Bytes, first: int, behind: int, info: Vmcoreinfo, order: ByteOrder, problem: Problems
) -> Iterator[Record]:
    """The records from offset `first` (log_first_idx) up to `behind` (log_next_idx)."""
    name = "printk_log" if info.size("printk_log") else "log"
    size = info.size(name)
    places = [info.offset(f"{name}.{member}") for member in _RECORD]
    if size is None or None in places:
        raise BadRecord("its layout is not told", where="VMCOREINFO")
    o, at, seen = STRUCT_ORDER[order], first, 0
    time_at, len_at, text_at, dict_at = (place or 0 for place in places)
    while at != behind and seen <= len(ring):
        if at + size > len(ring):
            problem(f"a record at {at:#x} of {len(ring):#x}")
            return
        (length,) = struct.unpack_from(o + "H", ring, at + len_at)
        if length == 0:  # the rest of the ring is not used
            if at == 0:
                problem("the log has no end")
                return
            at, seen = 0, seen + len(ring) - at
            continue
        if length < size or at + length > len(ring):
            problem(f"a record of {length} bytes at {at:#x}")
            return
        (time,) = struct.unpack_from(o + "Q", ring, at + time_at)
        (text_size,) = struct.unpack_from(o + "H", ring, at + text_at)
        facility, bits = ring[at + dict_at + 2], ring[at + dict_at + 3]
        flags, level = _flags(bits, order)
        text = _text(ring[at + size : at + min(size + text_size, length)])
        yield Record(None, time, level, facility, None, text, flags)
        at, seen = at + length, seen + length


_RECORD = ("ts_nsec", "len", "text_len", "dict_len")


def joined(records: Iterator[Record]) -> Iterator[Record]:
    """Records, those that are pieces of one line made one: pr_cont() until 5.9."""
    last: Record | None = None
    for record in records:
        if last is not None and last.flags & _CONT and not record.flags & _PREFIX:
            last = replace(last, text=last.text + record.text, flags=record.flags)
            continue
        if last is not None:
            yield last
        last = record
    if last is not None:
        yield last


# --- lockless rings -----------------------------------------------------------------------------


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
    def need(value: int | None, name: str) -> int:
        if value is None:
            raise BadRecord(f"nothing of {name}", where="VMCOREINFO")
        return value

    def offset(name: str) -> int:
        return need(info.offset(name), name)

    block = offset("prb_desc.text_blk_lpos")
    return _Layout(
        desc_size=need(info.size("prb_desc"), "prb_desc"),
        state=offset("prb_desc.state_var") + (info.offset("atomic_long_t.counter") or 0),
        begin=block + offset("prb_data_blk_lpos.begin"),
        next=block + offset("prb_data_blk_lpos.next"),
        info_size=need(info.size("printk_info"), "printk_info"),
        seq=offset("printk_info.seq"),
        time=offset("printk_info.ts_nsec"),
        length=offset("printk_info.text_len"),
        caller=offset("printk_info.caller_id"),
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
    mask, lost = (1 << _STATE_SHIFT) - 1, 0
    count = min((rings.head_id - rings.tail_id & mask) + 1, rings.count)
    for number in range(count):
        identifier = rings.tail_id + number & mask
        slot = identifier % rings.count
        desc, about = slot * layout.desc_size, slot * layout.info_size
        if desc + layout.desc_size > len(descs) or about + layout.info_size > len(infos):
            lost += 1
            continue
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
    start, end = begin % size, behind % size
    if start > end:  # it did not fit behind the others, and stands at the beginning
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
    flags, level = _flags(bits, order)
    return Record(seq, time, level, facility, _caller(caller), _text(body[:length]), flags)


# --- carving ------------------------------------------------------------------------------------

_RUN = re.compile(rb"[\t -~]{6,4096}")


def carve(data: Bytes) -> Iterator[Record]:
    """What looks like text in a damaged ring, in the order in which it stands there."""
    for match in _RUN.finditer(data):
        yield _line(match[0])
