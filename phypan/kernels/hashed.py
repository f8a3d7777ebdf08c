"""The hashed page table: one effective address looked up as the hardware does, a whole table read.

Power ISA 2.07 and 3.0, Book III, "Virtual Address Generation", "Virtual to Real Translation",
"Page Table Search"; masks from phypan/formats/hpte.py. Effective addresses become virtual ones by
a list of segments (an SLB) or by Linux's own rule (kernels/segments.py), then real ones.
"""

from __future__ import annotations

from typing import Any

from phypan.formats.hpte import (
    AVPN,
    AVPN_SHIFT,
    B_SHIFT,
    LARGE,
    RPN,
    SECONDARY,
    V3_B_SHIFT,
    V3_FIRST,
    VALID,
    VRMA_VSID,
)
from phypan.kernels.segments import NO_VSID, SEGMENT_SHIFT, SEGMENT_WORDS, segment, vsid
from phypan.kernels.tables import NOT_MAPPED, NOT_RESIDENT, OK, OUTSIDE
from phypan.kernels.words import Words, find, i64, load, prefetch, u64

# Places in `table`.
START = 0  # address of the first entry
GROUPS = 1  # number of groups, a power of two
V3 = 2  # 1: entries of ISA 3.0
TABLE = 3

# `sizes` has three words for each page size: base shift, actual shift, value of LP.
SIZE_WORDS = 3
# `slb` has four words for each segment: effective address, segment shift, VSID, base page shift.
SLB_WORDS = 4

HASH_MASK = 0x7FFFFFFFFF
MATCH_MASK = AVPN | 3 << B_SHIFT | SECONDARY | VALID
GROUP_BYTES, ENTRY_BYTES, SLOTS = 128, 16, 8


def entry_at(table: Words, bases: Any, extent: int, offset: int) -> tuple[int, int]:
    """Both doublewords of an entry, in the old form."""
    first = load(bases, extent, offset, 1)
    second = load(bases, extent, offset + u64(8), 1)
    if table[V3] != u64(0):
        b = second >> u64(V3_B_SHIFT) & u64(3)
        first = first & u64(V3_FIRST) | b << u64(B_SHIFT)
        second = second & ~(u64(3) << u64(V3_B_SHIFT))
    return first, second


def actual_shift(sizes: Words, base: int, first: int, second: int) -> int:
    """Shift of the size of the page that an entry of a segment of `base` maps; 0 if it cannot."""
    if first & u64(LARGE) == u64(0):
        return u64(12) if base == u64(12) else u64(0)
    for n in range(0, len(sizes), SIZE_WORDS):
        shift = sizes[n + 1]
        if sizes[n] == base and shift != u64(12):
            low = second & u64(RPN) & ((u64(1) << shift) - u64(1))
            if low == sizes[n + 2] << u64(12):
                return shift
    return u64(0)


def page_hash(number: int, offset: int, segment_shift: int, base: int) -> int:
    """The 39-bit primary hash of the page at `offset` in virtual segment `number`."""
    spread = number ^ number << u64(25) if segment_shift == u64(40) else number
    return (spread ^ offset >> base) & u64(HASH_MASK)


def wanted(number: int, offset: int, segment_shift: int, base: int) -> int:
    """B and AVPN, as they must be in the first doubleword."""
    avpn = number << (segment_shift - u64(23)) | offset >> u64(23)
    if base > u64(23):
        avpn &= ~((u64(1) << (base - u64(23))) - u64(1))
    b = u64(1) if segment_shift == u64(40) else u64(0)
    return avpn << u64(AVPN_SHIFT) & u64(AVPN) | b << u64(B_SHIFT)


def lookup(
    table: Words,
    sizes: Words,
    starts: Words,
    ends: Words,
    bases: Any,
    number: int,
    segment_shift: int,
    base: int,
    address: int,
    found: Words,
) -> tuple[int, int, int]:
    """(fault, real address, shift of the page size) of an effective address in segment `number`.

    found  filled with the index of the entry and its two doublewords
    """
    offset = address & ((u64(1) << segment_shift) - u64(1))
    want = wanted(number, offset, segment_shift, base)
    hashed = page_hash(number, offset, segment_shift, base)
    for secondary in range(2):
        group = (~hashed if secondary else hashed) & (table[GROUPS] - u64(1))
        where = table[START] + group * u64(GROUP_BYTES)
        extent = find(starts, ends, where + u64(GROUP_BYTES - 8))
        if extent < 0 or starts[extent] > where:
            return NOT_RESIDENT, where, u64(0)
        match = want | u64(VALID) | (u64(SECONDARY) if secondary else u64(0))
        for slot in range(SLOTS):
            offset_in = where - starts[extent] + u64(slot * ENTRY_BYTES)
            first, second = entry_at(table, bases, extent, offset_in)
            if first & u64(MATCH_MASK) == match:
                shift = actual_shift(sizes, base, first, second)
                if shift != u64(0):
                    found[0] = group * u64(SLOTS) + u64(slot)
                    found[1], found[2] = first, second
                    low = (u64(1) << shift) - u64(1)
                    return OK, second & u64(RPN) & ~low | address & low, shift
    return NOT_MAPPED, u64(0), u64(0)


def by_slb(
    slb: Words, table: Words, sizes: Words, starts: Words, ends: Words, bases: Any,
    address: int, found: Words,
) -> tuple[int, int, int]:  # fmt: skip
    """As `lookup`, through a list of segments, as a CPU has them."""
    for n in range(0, len(slb), SLB_WORDS):
        if address >> slb[n + 1] == slb[n] >> slb[n + 1]:
            return lookup(
                table, sizes, starts, ends, bases,
                slb[n + 2], slb[n + 1], slb[n + 3], address, found,
            )  # fmt: skip
    return OUTSIDE, u64(0), u64(0)


def by_scheme(
    scheme: Words, context: int, table: Words, sizes: Words, starts: Words, ends: Words, bases: Any,
    address: int, found: Words,
) -> tuple[int, int, int]:  # fmt: skip
    """As `lookup`, by Linux's rule: segments of 1 TiB, then of 256 MiB; every base page size.

    Which of them a segment has is in no dump, but an entry matches in one of them only.
    """
    fault, real, shift = OUTSIDE, u64(0), u64(0)
    for row in (SEGMENT_WORDS, 0):
        number = vsid(scheme, row, context, address)
        if number == u64(NO_VSID):
            continue
        base = u64(0)
        for n in range(0, len(sizes), SIZE_WORDS):
            if sizes[n] == base:
                continue
            base = sizes[n]
            fault, real, shift = lookup(
                table, sizes, starts, ends, bases,
                number, scheme[row + SEGMENT_SHIFT], base, address, found,
            )  # fmt: skip
            if fault != NOT_MAPPED:
                return fault, real, shift
    return fault, real, shift


def ask_for(
    slb: Words, scheme: Words, context: int, table: Words, sizes: Words,
    starts: Words, ends: Words, bases: Any, address: int,
) -> None:  # fmt: skip
    """Prefetch the group that will be looked into first for an address."""
    base, segment_shift, number = sizes[0], u64(40), u64(NO_VSID)
    if len(slb) == 0:
        number = vsid(scheme, SEGMENT_WORDS, context, address)
    for n in range(0, len(slb), SLB_WORDS):
        if number == u64(NO_VSID) and address >> slb[n + 1] == slb[n] >> slb[n + 1]:
            segment_shift, number, base = slb[n + 1], slb[n + 2], slb[n + 3]
    offset = address & ((u64(1) << segment_shift) - u64(1))
    group = page_hash(number, offset, segment_shift, base) & (table[GROUPS] - u64(1))
    where = table[START] + group * u64(GROUP_BYTES)
    extent = find(starts, ends, where + u64(GROUP_BYTES - 8))
    if extent >= 0 and starts[extent] <= where:
        prefetch(bases, extent, where - starts[extent])
        prefetch(bases, extent, where - starts[extent] + u64(GROUP_BYTES // 2))


BLOCK = 32  # addresses whose groups are asked for before the first is looked into


def many(
    slb: Words, scheme: Words, context: int, table: Words, sizes: Words,
    starts: Words, ends: Words, bases: Any,
    addresses: Words, found: Words,
    physical: Words, entries: Words, shifts: Words, faults: Words, indices: Words,
) -> None:  # fmt: skip
    """Translate `addresses` through the segments in `slb`, or by Linux's `scheme` if it is empty.

    Fills the last five arrays as tables.many() does; `entries` has the second doubleword, `indices`
    the place of the entry in the table. `found` is for three words.
    """
    for begin in range(0, len(addresses), BLOCK):
        end = min(begin + BLOCK, len(addresses))
        for n in range(begin, end):
            ask_for(slb, scheme, context, table, sizes, starts, ends, bases, addresses[n])
        for n in range(begin, end):
            found[0], found[2] = u64(0), u64(0)
            if len(slb) > 0:
                fault, real, shift = by_slb(
                    slb, table, sizes, starts, ends, bases, addresses[n], found
                )
            else:
                fault, real, shift = by_scheme(
                    scheme, context, table, sizes, starts, ends, bases, addresses[n], found
                )
            physical[n], shifts[n], faults[n] = real, shift, fault
            entries[n], indices[n] = found[2], found[0]


# `scan` fills eight words for each valid entry.
INDEX, ENTRY_FIRST, ENTRY_SECOND = 0, 1, 2  # doublewords in the old form
BASE, ACTUAL = 3, 4  # shifts of the page sizes; 0 if they are encoded in no known way
CONTEXT = 5  # 0: the kernel's; NO_VSID: the VRMA's
ADDRESS = 6  # effective address of the page; of the VRMA its offset
WRONG = 7  # of these bits:
MISPLACED = 1  # it is in a group that its address does not hash to
DUPLICATE = 2  # another entry for the same page is found before it
SCAN_WORDS = 8


def page_sizes(sizes: Words, first: int, second: int) -> tuple[int, int]:
    """Shifts of (base, actual) page size that an entry encodes, the smallest that fit; or 0."""
    if first & u64(LARGE) == u64(0):
        return u64(12), u64(12)
    for n in range(0, len(sizes), SIZE_WORDS):
        shift = actual_shift(sizes, sizes[n], first, second)
        if shift != u64(0):
            return sizes[n], shift
    return u64(0), u64(0)


def page_of(groups: int, index: int, first: int, base: int) -> tuple[int, int, int, int]:
    """(segment shift, VSID, offset in the segment, MISPLACED or 0) of an entry's page.

    The bits of a virtual address below 23 are not stored: they follow from the group.
    """
    large = first >> u64(B_SHIFT) & u64(1) != u64(0)
    segment_shift = u64(40) if large else u64(28)
    group = index >> u64(3)
    if first & u64(SECONDARY) != u64(0):
        group = ~group & (groups - u64(1))
    avpn = (first & u64(AVPN)) >> u64(AVPN_SHIFT)
    number = avpn >> (segment_shift - u64(23))
    offset = avpn << u64(23) & ((u64(1) << segment_shift) - u64(1))
    shift = base if base != u64(0) else u64(12)
    if shift < u64(23):
        page = (page_hash(number, u64(0), segment_shift, shift) ^ group) & (groups - u64(1))
        offset |= page << shift & u64((1 << 23) - 1)
    expected = page_hash(number, offset, segment_shift, shift) & (groups - u64(1))
    wrong = u64(0) if expected == group else u64(MISPLACED)
    return segment_shift, number, offset, wrong


def owner(scheme: Words, segment_shift: int, number: int) -> tuple[int, int]:
    """(context, effective address) of a segment: segments.segment(), and the VRMA."""
    large = segment_shift == u64(40)
    if large and number == u64(VRMA_VSID):
        return u64(NO_VSID), u64(0)
    return segment(scheme, SEGMENT_WORDS if large else 0, number)


def scan(
    scheme: Words, table: Words, sizes: Words, starts: Words, ends: Words, bases: Any,
    state: Words, found: Words, out: Words,
) -> tuple[int, int]:  # fmt: skip
    """(NOT_RESIDENT or OK, valid entries read into `out`), from index state[0] on.

    It stops where `out` is full, at the end, or at memory that is not resident; state[0] is then
    the index to go on from.
    """
    count = 0
    capacity = len(out) // SCAN_WORDS
    while state[0] < table[GROUPS] * u64(SLOTS) and count < capacity:
        index = state[0]
        where = table[START] + index * u64(ENTRY_BYTES)
        extent = find(starts, ends, where + u64(8))
        if extent < 0 or starts[extent] > where:
            return NOT_RESIDENT, count
        first, second = entry_at(table, bases, extent, where - starts[extent])
        if first & u64(VALID) != u64(0):
            at = SCAN_WORDS * count
            base, actual = page_sizes(sizes, first, second)
            segment_shift, number, offset, wrong = page_of(table[GROUPS], index, first, base)
            if base != u64(0):
                fault, _, _ = lookup(
                    table, sizes, starts, ends, bases, number, segment_shift, base, offset, found
                )
                if fault == OK and found[0] != index:
                    wrong |= u64(DUPLICATE)
            context, start = owner(scheme, segment_shift, number)
            out[at + INDEX] = index
            out[at + ENTRY_FIRST], out[at + ENTRY_SECOND] = first, second
            out[at + BASE], out[at + ACTUAL] = base, actual
            out[at + CONTEXT], out[at + ADDRESS] = context, start | offset
            out[at + WRONG] = wrong
            count += 1
        state[0] += u64(1)
    return OK, count


def occupancy(table: Words, starts: Words, ends: Words, bases: Any, counts: Words) -> int:
    """Groups that are not resident; counts[n] is raised by the number of groups with n entries."""
    missing = 0
    for group in range(i64(table[GROUPS])):
        where = table[START] + u64(group) * u64(GROUP_BYTES)
        extent = find(starts, ends, where + u64(GROUP_BYTES - 8))
        if extent < 0 or starts[extent] > where:
            missing += 1
            continue
        valid = 0
        for slot in range(SLOTS):
            offset = where - starts[extent] + u64(slot * ENTRY_BYTES)
            valid += i64(load(bases, extent, offset, 1) & u64(VALID))
        counts[valid] += u64(1)
    return missing
