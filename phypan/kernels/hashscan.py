"""The hashed page table, read as a whole: whose page each entry maps, and how full the groups are.

It is kernels/hashed.py the other way round: from an entry to its effective address.
"""

from __future__ import annotations

from typing import Any

from phypan.formats.hpte import AVPN, AVPN_SHIFT, B_SHIFT, LARGE, SECONDARY, VALID, VRMA_VSID
from phypan.kernels.hashed import (
    ENTRY_BYTES,
    GROUP_BYTES,
    GROUPS,
    SIZE_WORDS,
    SLOTS,
    START,
    actual_shift,
    entry_at,
    lookup,
    page_hash,
)
from phypan.kernels.segments import NO_VSID, SEGMENT_WORDS, segment
from phypan.kernels.tables import NOT_RESIDENT, OK
from phypan.kernels.words import Words, find, i64, load, u64

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
