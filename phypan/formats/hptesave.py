"""Hardware Page Table Entry Save Area: the entries that map the VRMA (section type 0x0002).

LoPAR 2.9, "Firmware Assisted Dump Data Format", Hardware Page Table Entry Save Area. It is not the
hashed page table: it holds just the entries for the virtualised real mode area that were in use
when Open Firmware was started. Integers are big-endian.

LoPAR contradicts itself: NumEntries has eight bytes at 0x18, NumEntriesOffset is printed as 0x1c.
Both agree below 2^32 entries when the count is read as four bytes at 0x1c, or as eight at 0x18.
Nobody implements the area (QEMU leaves it empty, Linux does not read it), so the document is all
there is to go by.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from construct import Const, Int32ub, Int64ub, Padding, Struct

from phypan.errors import BadRecord, Problem
from phypan.formats import hpte
from phypan.formats._records import Bytes, build, pack, parse

MAGIC = b"HPTESAVE"
HEADER = Struct(
    "magic" / Const(MAGIC),
    "version" / Int32ub,
    "num_entries_offset" / Int32ub,
    Padding(8),
    "num_entries" / Int64ub,
)
PREFIX = Struct("magic" / Const(MAGIC), "version" / Int32ub, "num_entries_offset" / Int32ub)
ENTRY = struct.Struct(">QQQ")  # index of the entry in the page table, then its doublewords
MAX_ENTRIES = 1 << 18  # a VRMA of 16 GiB in pages of 64 KiB; more are damage
WHERE = "HPTE save area"


@dataclass(frozen=True)
class HpteSaveArea:
    """The saved entries in stored order, which means nothing: sort them by `index` or `real`."""

    entries: tuple[hpte.Hpte, ...]
    version: int = 0
    problems: tuple[Problem, ...] = field(default=(), compare=False)


def read(area: Bytes) -> HpteSaveArea:
    """The HPTE save area; what is behind the last entry is padding.

    More entries announced than there is room for: those that fit, and a problem. Raises BadRecord
    when the header is not there.
    """
    header = parse(PREFIX, area, WHERE)
    at = header.num_entries_offset
    # Eight bytes at 0x18 or four at 0x1c, and the same for a header that has grown.
    width = 4 if at % 8 else 8
    if not PREFIX.sizeof() <= at <= len(area) - width:
        raise BadRecord(f"the number of entries is said to be at byte {at:#x}", where=WHERE)
    announced = int.from_bytes(bytes(area[at : at + width]), "big")
    first = at + width
    fitting = (len(area) - first) // ENTRY.size
    count = min(announced, fitting, MAX_ENTRIES)
    problems = []
    if header.version != 0:
        problems.append(Problem(f"version {header.version}, not 0", WHERE, "read as version 0"))
    if announced > count:
        what = f"{announced} entries announced, {fitting} fit"
        problems.append(Problem(what, WHERE, f"the first {count} were read"))
    stored = memoryview(area)[first : first + count * ENTRY.size]
    entries = tuple(hpte.decode(*record) for record in ENTRY.iter_unpack(stored))
    return HpteSaveArea(entries, header.version, tuple(problems))


def write(entries: Iterable[tuple[int, int, int]]) -> bytes:
    """The area that holds (index, first doubleword, second doubleword), in this order."""
    records = [pack(ENTRY, *entry, where=WHERE) for entry in entries]
    head = {"version": 0, "num_entries_offset": 0x1C, "num_entries": len(records)}
    return build(HEADER, head) + b"".join(records)
