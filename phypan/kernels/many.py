"""Trees of page tables, many addresses at a time: kernels/tables.py in blocks.

Addresses go down in blocks, level by level. The entry that an address needs next is asked for at
once and read a block later: reads of memory do not wait for each other.
"""

from __future__ import annotations

from typing import Any

from phypan.kernels.tables import (
    BAD_ENTRY,
    GOING,
    LEVEL,
    MAX_STEPS,
    NOT_RESIDENT,
    ROOT,
    place,
    step,
    without_tables,
)
from phypan.kernels.words import Words, find, i64, prefetch, u64

BLOCK = 64
W_ADDRESS, W_WHERE, W_EXTENT, W_SHIFT, W_LEVEL, WAY_WORDS = 0, 1, 2, 3, 4, 5
WAYS = BLOCK * WAY_WORDS  # words of scratch space for `many`


def open_way(
    starts: Words,
    ends: Words,
    bases: Any,
    ways: Words,
    count: int,
    n: int,
    where: int,
    shift: int,
    level: int,
) -> None:
    """Note that address number `n` needs the entry at `where` next."""
    extent = find(starts, ends, where)
    row = WAY_WORDS * count
    ways[row + W_ADDRESS], ways[row + W_WHERE] = u64(n), where
    ways[row + W_EXTENT] = u64(extent + 1)  # 0: in none
    ways[row + W_SHIFT], ways[row + W_LEVEL] = shift, u64(level)
    if extent >= 0:
        prefetch(bases, extent, where - starts[extent])


def advance(
    facts: Words,
    starts: Words,
    ends: Words,
    bases: Any,
    addresses: Words,
    ways: Words,
    count: int,
    physical: Words,
    entries: Words,
    shifts: Words,
    faults: Words,
) -> int:
    """Take each of the `count` open ways one level further; how many are open then."""
    kept = 0
    for k in range(count):
        row = WAY_WORDS * k
        n = i64(ways[row + W_ADDRESS])
        extent = i64(ways[row + W_EXTENT]) - 1
        fault, found, size, entry, below, shift, level = step(
            facts, starts, bases, addresses[n], ways[row + W_WHERE], extent,
            ways[row + W_SHIFT], i64(ways[row + W_LEVEL]),
        )  # fmt: skip
        if fault == GOING:
            open_way(starts, ends, bases, ways, kept, n, below, shift, level)
            kept += 1
            fault = BAD_ENTRY  # should no step follow
        physical[n], shifts[n], faults[n] = found, size, fault
        if fault != NOT_RESIDENT:
            entries[n] = entry
    return kept


def many(
    facts: Words,
    list_starts: Words,
    list_physical: Words,
    starts: Words,
    ends: Words,
    bases: Any,
    addresses: Words,
    ways: Words,
    physical: Words,
    entries: Words,
    shifts: Words,
    faults: Words,
) -> None:
    """Translate `addresses`; fill the last four arrays, one element for each address.

    ways      scratch space, WAYS words
    physical  the physical address, or that of the entry that is missing or wrong
    entries   the last entry that was read, 0 if none was; it must be zeros before
    shifts    page size 1 << shift; for a fault, what the entry at fault covers
    faults    OK or why not
    """
    for first in range(0, len(addresses), BLOCK):
        count = 0
        for n in range(first, min(first + BLOCK, len(addresses))):
            fault, found, shift = without_tables(facts, list_starts, list_physical, addresses[n])
            physical[n], shifts[n], faults[n] = found, shift, fault
            if fault == GOING:
                where = place(addresses[n], facts[ROOT], facts[LEVEL], facts[LEVEL + 1])
                open_way(starts, ends, bases, ways, count, n, where, facts[LEVEL], 0)
                count += 1
        for _ in range(MAX_STEPS):
            if count > 0:
                count = advance(
                    facts, starts, ends, bases, addresses, ways, count,
                    physical, entries, shifts, faults,
                )  # fmt: skip
