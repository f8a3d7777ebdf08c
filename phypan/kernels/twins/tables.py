"""Twin of kernels/tables.py: all addresses go down one level at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from phypan.kernels.tables import (
    BAD_ENTRY,
    BIG,
    FIRST,
    HUGE_ADDRESS,
    HUGE_BITS,
    HUGE_DIRECT,
    HUGE_MASK,
    HUGE_SET,
    HUGE_SHIFTS,
    HUGE_VALUE,
    LAST,
    LEAF_MASK,
    LEVEL,
    LEVEL_WORDS,
    LEVELS,
    LINEAR_FIRST,
    LINEAR_LAST,
    LIST_FIRST,
    LIST_LAST,
    LIST_SHIFT,
    MAX_STEPS,
    NOT_MAPPED,
    NOT_RESIDENT,
    OK,
    OUTSIDE,
    PAGE_SHIFT,
    PFN_4K,
    PRESENT,
    RADIX,
    RADIX_NLB,
    RADIX_NLS,
    ROOT,
    RPN,
    RPN_LEFT,
    RPN_RIGHT,
    VIRTUAL,
)
from phypan.kernels.twins.words import Array, gather

_U = np.uint64
_HUGE_SHIFTS = np.array(HUGE_SHIFTS, np.uint64)


@dataclass
class Below:
    """What entries are: each array has an element for each of them."""

    leaf: Array  # it maps a page
    absent: Array  # it maps nothing
    table: Array  # physical address of the table below; where neither leaf, absent nor bad
    shift: Array
    bits: Array
    level: Array
    bad: Array


def descend(facts: Array, entry: Array, shift: Array, level: Array) -> Below:
    """What each entry is, on its level and of its range."""
    return _radix(entry, shift, level) if facts[RADIX] else _linux(facts, entry, shift, level)


def _radix(entry: Array, shift: Array, level: Array) -> Below:
    valid, leaf = entry >> _U(63) != 0, entry >> _U(62) & _U(1) != 0
    bits = entry & _U(RADIX_NLS)
    wrong = (bits == 0) | (bits + _U(12) > shift)
    return Below(
        leaf=valid & leaf,
        absent=~valid,
        table=entry & _U(RADIX_NLB),
        shift=np.where(wrong, shift, shift - np.minimum(bits, shift)),
        bits=np.where(wrong, _U(0), bits),
        level=level + 1,
        bad=valid & ~leaf & wrong,
    )


def _linux(facts: Array, entry: Array, shift: Array, level: Array) -> Below:
    levels = int(facts[LEVELS])
    last = level + 1 == levels
    final = (entry != 0) & (last | (entry & facts[LEAF_MASK] != 0))
    present = entry & facts[PRESENT] != 0
    huge = ~final & (entry & facts[HUGE_MASK] == facts[HUGE_VALUE])
    huge &= (entry & facts[HUGE_BITS] != 0) & (entry != 0)
    row = LEVEL + LEVEL_WORDS * np.minimum(level, levels - 1)
    below = LEVEL + LEVEL_WORDS * np.minimum(level + 1, levels - 1)
    low = entry & _U(0x3F)
    page = low if facts[HUGE_DIRECT] else _HUGE_SHIFTS[(low >> _U(2)).astype(np.int64)]
    table = np.where(huge, entry & facts[HUGE_ADDRESS] | facts[HUGE_SET], entry & ~facts[row + 2])
    bad = (table < facts[VIRTUAL]) | (table & _U(7) != 0) | (huge & (page < 12))
    table = table - np.minimum(facts[VIRTUAL], table)
    return Below(
        leaf=final & present,
        absent=(entry == 0) | (final & ~present),
        table=np.where(huge, table, table & _U(0x0FFFFFFFFFFFFFFF)),
        shift=np.where(huge, page, facts[below]),
        bits=np.where(huge, np.maximum(shift, page) - page, facts[below + 1]),
        level=np.where(huge, levels - 1, level + 1),
        bad=(entry != 0) & ~final & bad,
    )


def target(facts: Array, entry: Array, shift: Array, level: Array) -> tuple[Array, Array]:
    """(physical address of the page, shift of its size) of each leaf."""
    physical = (entry & facts[RPN]) >> facts[RPN_RIGHT] << facts[RPN_LEFT]
    small = (level + 1 == int(facts[LEVELS])) & (shift == facts[PAGE_SHIFT])
    small &= entry & facts[PFN_4K] != 0
    whole = physical & ~((_U(1) << shift) - _U(1))
    down = facts[PAGE_SHIFT] - _U(12) if facts[PAGE_SHIFT] else _U(0)
    return np.where(small, physical >> down, whole), np.where(small, _U(12), shift)


def many(
    facts: Array, list_starts: Array, list_physical: Array,
    starts: Array, ends: Array, bases: list[Array],
    addresses: Array, physical: Array, entries: Array, shifts: Array, faults: Array,
) -> None:  # fmt: skip
    """As kernels.tables.many()."""
    for array, value in ((physical, 0), (entries, 0), (shifts, 0), (faults, OUTSIDE)):
        array[:] = value
    linear = (facts[LINEAR_FIRST] <= addresses) & (addresses <= facts[LINEAR_LAST])
    physical[linear] = addresses[linear] - facts[LINEAR_FIRST]
    shifts[linear], faults[linear] = facts[PAGE_SHIFT], OK
    listed = (facts[LIST_FIRST] <= addresses) & (addresses <= facts[LIST_LAST]) & ~linear
    physical[listed], faults[listed] = _listed(facts, list_starts, list_physical, addresses[listed])
    shifts[listed] = facts[LIST_SHIFT]
    walked = (facts[FIRST] <= addresses) & (addresses <= facts[LAST]) & ~linear & ~listed
    chosen = np.flatnonzero(walked)
    if chosen.size:
        result = _walk(facts, starts, ends, bases, addresses[chosen])
        physical[chosen], entries[chosen], shifts[chosen], faults[chosen] = result


def _listed(facts: Array, starts: Array, targets: Array, addresses: Array) -> tuple[Any, Any]:
    place = np.searchsorted(starts, addresses, side="right").astype(np.int64) - 1
    known = place >= 0
    if not starts.size:
        return np.zeros(addresses.size, np.uint64), np.full(addresses.size, NOT_MAPPED)
    safe = np.maximum(place, 0)
    offset = addresses - starts[safe]
    known &= offset >> facts[LIST_SHIFT] == 0
    return np.where(known, targets[safe] + offset, _U(0)), np.where(known, OK, NOT_MAPPED)


def _walk(
    facts: Array, starts: Array, ends: Array, bases: list[Array], addresses: Array
) -> tuple[Array, Array, Array, Array]:
    count = addresses.size
    physical, entries = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    shifts, faults = np.zeros(count, np.uint64), np.full(count, BAD_ENTRY, np.int64)
    active = np.arange(count)
    table = np.full(count, facts[ROOT])
    shift, bits = np.full(count, facts[LEVEL]), np.full(count, facts[LEVEL + 1])
    level = np.zeros(count, np.int64)
    for _ in range(MAX_STEPS):
        address = addresses[active]
        where = table + ((address >> shift & ((_U(1) << bits) - _U(1))) << _U(3))
        entry, resident = gather(starts, ends, bases, where, bool(facts[BIG]))
        physical[active], shifts[active] = where, shift
        entries[active[resident]] = entry[resident]
        below = descend(facts, entry, shift, level)
        page, size = target(facts, entry, shift, level)
        kinds = (~resident, below.leaf, below.absent, below.bad)
        faults[active] = np.select(kinds, (NOT_RESIDENT, OK, NOT_MAPPED, BAD_ENTRY), BAD_ENTRY)
        hit = resident & below.leaf
        inside = address & ((_U(1) << size) - _U(1))
        physical[active[hit]], shifts[active[hit]] = (page | inside)[hit], size[hit]
        on = resident & ~below.leaf & ~below.absent & ~below.bad
        active = active[on]
        table, shift, bits, level = (
            part[on] for part in (below.table, below.shift, below.bits, below.level)
        )
        if not active.size:
            break
    return physical, entries, shifts, faults
