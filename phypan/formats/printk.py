"""The kernel's log, in the forms that it has had before it was lockless; and what is left of one.

    text ring   until 3.4: characters, each line with "<level>" before it
    records     3.5 to 5.9: struct printk_log (struct log at first) and the text behind it
    lockless    since 5.10: phypan/formats/printk_ringbuffer.py

Linux kernel/printk/printk.c. What the structures look like VMCOREINFO tells; facility, flags and
level stand in two bytes behind the last length in both later forms.
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


def decoded(data: Bytes) -> str:
    """The text of a message; what is no UTF-8 escaped."""
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
        text=decoded(rest),
    )


# --- records ------------------------------------------------------------------------------------


def flags_and_level(byte: int, order: ByteOrder) -> tuple[int, int]:
    """(flags, level) of the byte that holds them as bit fields: 5 bits and 3."""
    return (byte & 0x1F, byte >> 5) if order == "little" else (byte >> 3, byte & 7)


def caller_name(number: int) -> str | None:
    """The thread or CPU that a caller_id names."""
    if not number:
        return None
    return f"C{number & 0x7FFFFFFF}" if number >> 31 else f"T{number}"


def read_records(
    ring: Bytes, first: int, behind: int, info: Vmcoreinfo, order: ByteOrder, problem: Problems
) -> Iterator[Record]:
    """The records from offset `first` (log_first_idx) up to `behind` (log_next_idx)."""
    name = "printk_log" if info.size("printk_log") else "log"
    size = info.size(name) or 0
    o, at, seen = STRUCT_ORDER[order], first, 0
    time_at, len_at, text_at, dict_at = (
        member_at(info, f"{name}.{member}", size, width) for member, width in _RECORD.items()
    )
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
        flags, level = flags_and_level(bits, order)
        text = decoded(ring[at + size : at + min(size + text_size, length)])
        yield Record(None, time, level, facility, None, text, flags)
        at, seen = at + length, seen + length


# The members of a record that are read, and the bytes there; behind dict_len follow two more.
_RECORD = {"ts_nsec": 8, "len": 2, "text_len": 2, "dict_len": 4}


def member_at(info: Vmcoreinfo, name: str, size: int, width: int) -> int:
    """The offset of a member of `width` bytes in a structure of `size`; BadRecord if not in it."""
    at = info.offset(name)
    if at is None:
        raise BadRecord(f"its layout is not told: no offset of {name}", where="VMCOREINFO")
    if not 0 <= at <= size - width:
        raise BadRecord(f"{name} at byte {at:#x} of {size:#x}", where="VMCOREINFO")
    return at


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


# --- carving ------------------------------------------------------------------------------------

_RUN = re.compile(rb"[\t -~]{6,4096}")


def carve(data: Bytes) -> Iterator[Record]:
    """What looks like text in a damaged ring, in the order in which it stands there."""
    for match in _RUN.finditer(data):
        yield _line(match[0])
