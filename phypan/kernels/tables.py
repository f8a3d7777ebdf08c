"""Trees of page tables, one address at a time: Linux's own of every era, and radix.

What differs between eras is data: `facts`, an array of 64-bit words whose places are named below.
phypan/spaces/eras.py fills it in. A tree is entered at ROOT; what an entry is, is for `descend` to
say; `walk` follows one address down, kernels/leaves.py follows all of them.

Sources: Linux arch/powerpc/include/asm/{pgtable-ppc64*,pgtable-hash64*,book3s/64/*}.h of 2.6.14 to
6.12; Power ISA 3.1, Book III, "Radix Tree Translation".
"""

from __future__ import annotations

from typing import Any

from phypan.kernels.words import Words, find, i64, last_not_above, load, prefetch, u64

# What became of an address.
OK = 0
NOT_MAPPED = 1  # an entry on the way is empty, or its present bit is not set
BAD_ENTRY = 2  # an entry that no kernel and no processor would make
NOT_RESIDENT = 3  # the memory of an entry is in no extent: `physical` is the entry's address
OUTSIDE = 4  # the address is in no part of the address space that the tables are for
CYCLE = 5  # a table that is its own ancestor (kernels/leaves.py)
GOING = 6  # nothing yet: there are more entries on the way

# What an entry is.
ABSENT, LEAF, TABLE, BAD = 0, 1, 2, 3

# Places in `facts`.
ROOT = 0  # physical address of the top table
TOP = 1  # address bits that the walk does not use, to make whole addresses of indices
FIRST, LAST = 2, 3  # effective addresses that the tables are for
RADIX = 4  # 1: each entry tells the size of the table below (ISA 3.0)
BIG = 5  # 1: entries are big-endian
VIRTUAL = 6  # not 0: upper entries hold effective addresses; that of physical address 0
PRESENT = 7  # a leaf maps if one of these bits is set
LEAF_MASK = 8  # an upper entry with one of these bits is a leaf
HUGE_MASK, HUGE_VALUE, HUGE_BITS = 9, 10, 11  # hugepd: entry & MASK == VALUE and entry & BITS
HUGE_ADDRESS, HUGE_SET = 12, 13  # hugepd: its table is at entry & ADDRESS | SET
HUGE_DIRECT = 14  # hugepd: 1 if its low bits are a page shift, 0 if the index of one
RPN, RPN_RIGHT, RPN_LEFT = 15, 16, 17  # physical address: (entry & RPN) >> RIGHT << LEFT
PFN_4K = 18  # a last-level entry with one of these bits counts 4K pages in its RPN
FLAGS = 19  # the bits of a leaf that are not its physical address
PAGE_SHIFT = 20
LINEAR_FIRST, LINEAR_LAST = 21, 22  # the linear map, where it is not in the tables
LIST_FIRST, LIST_LAST, LIST_SHIFT = 23, 24, 25  # vmemmap, where it is not in the tables
LEVELS = 26
LEVEL = 27  # from here on, three words for each level from the top: shift, index bits, mask
LEVEL_WORDS = 3  # mask: the bits of an entry that are not the address of the table below
FACTS = LEVEL + 4 * LEVEL_WORDS

MAX_STEPS = 16  # entries on the way to a page; a radix tree has an index bit in each at least
RADIX_NLS = 0x1F
RADIX_NLB = 0x0FFFFFFFFFFFFF00
# Index of a page size in a hugepd -> its shift. Linux has renumbered MMU_PAGE_* twice (asm/mmu.h
# of 4.7 and 4.10), but hashed kernels have had no huge pages but of 16M and 16G. The rest is as
# before 4.7.
HUGE_SHIFTS = (12, 14, 16, 16, 18, 20, 22, 23, 24, 24, 24, 30, 34, 34, 34, 0)


def huge_shift(entry: int, direct: int) -> int:
    """The page shift that a hugepd encodes; 0 if none."""
    if direct != u64(0):
        return entry & u64(0x3F)
    return u64(HUGE_SHIFTS[i64((entry & u64(0x3F)) >> u64(2))])


def _radix(entry: int, shift: int) -> tuple[int, int, int, int]:
    if entry >> u64(63) == u64(0):
        return ABSENT, u64(0), u64(0), u64(0)
    if entry >> u64(62) & u64(1) != u64(0):
        return LEAF, u64(0), u64(0), u64(0)
    bits = entry & u64(RADIX_NLS)
    if bits == u64(0) or bits + u64(12) > shift:
        return BAD, u64(0), u64(0), u64(0)
    return TABLE, entry & u64(RADIX_NLB), shift - bits, bits


def _directory(facts: Words, entry: int, shift: int) -> tuple[int, int, int, int]:
    """A hugepd: a table of leaves that is as large as the huge pages of its range need."""
    below = huge_shift(entry, facts[HUGE_DIRECT])
    table = entry & facts[HUGE_ADDRESS] | facts[HUGE_SET]
    if below < u64(12) or table < facts[VIRTUAL] or table & u64(7) != u64(0):
        return BAD, u64(0), u64(0), u64(0)
    bits = shift - below if shift > below else u64(0)
    return TABLE, table - facts[VIRTUAL], below, bits


def descend(facts: Words, entry: int, shift: int, level: int) -> tuple[int, int, int, int, int]:
    """(what `entry` is, the table below, its shift, its index bits, its level).

    The entry is on `level`, counted from 0, and covers 1 << `shift` bytes. On the last level of
    Linux's tables every entry is a leaf; a hugepd leads there at once.
    """
    zero = u64(0)
    if facts[RADIX] != zero:
        kind, table, below, bits = _radix(entry, shift)
        return kind, table, below, bits, level + 1
    if entry == zero:
        return ABSENT, zero, zero, zero, level
    last = level + 1 == i64(facts[LEVELS])
    if last or entry & facts[LEAF_MASK] != zero:
        kind = LEAF if entry & facts[PRESENT] != zero else ABSENT
        return kind, zero, zero, zero, level
    if entry & facts[HUGE_MASK] == facts[HUGE_VALUE] and entry & facts[HUGE_BITS] != zero:
        kind, table, below, bits = _directory(facts, entry, shift)
        return kind, table, below, bits, i64(facts[LEVELS]) - 1
    row = LEVEL + LEVEL_WORDS * level
    table = entry & ~facts[row + 2]
    if table < facts[VIRTUAL] or table & u64(7) != zero:
        return BAD, zero, zero, zero, level
    table = (table - facts[VIRTUAL]) & u64(0x0FFFFFFFFFFFFFFF)
    return TABLE, table, facts[row + LEVEL_WORDS], facts[row + LEVEL_WORDS + 1], level + 1


def target(facts: Words, entry: int, shift: int, level: int) -> tuple[int, int]:
    """(physical address of the page that a leaf maps, shift of its size)."""
    physical = (entry & facts[RPN]) >> facts[RPN_RIGHT] << facts[RPN_LEFT]
    small = level + 1 == i64(facts[LEVELS]) and shift == facts[PAGE_SHIFT]
    if small and entry & facts[PFN_4K] != u64(0):
        return physical >> (facts[PAGE_SHIFT] - u64(12)), u64(12)
    return physical & ~((u64(1) << shift) - u64(1)), shift


def place(address: int, table: int, shift: int, bits: int) -> int:
    """Physical address of the entry for an effective address in a table."""
    return table + ((address >> shift & ((u64(1) << bits) - u64(1))) << u64(3))


def step(
    facts: Words,
    starts: Words,
    bases: Any,
    address: int,
    where: int,
    extent: int,
    shift: int,
    level: int,
) -> tuple[int, int, int, int, int, int, int]:
    """Read the entry at `where`, in extent number `extent`, and say what follows from it.

    (fault, OK or GOING; physical address; shift of its size; the entry; address of the entry below
    if there is one, its shift, its level). With a fault, the physical address is `where`.
    """
    zero = u64(0)
    if extent < 0:
        return NOT_RESIDENT, where, shift, zero, zero, zero, 0
    entry = load(bases, extent, where - starts[extent], facts[BIG])
    kind, table, below, bits, above = descend(facts, entry, shift, level)
    if kind == TABLE:
        return GOING, where, shift, entry, place(address, table, below, bits), below, above
    if kind == LEAF:
        physical, size = target(facts, entry, shift, level)
        physical |= address & ((u64(1) << size) - u64(1))
        return OK, physical, size, entry, zero, zero, 0
    return NOT_MAPPED if kind == ABSENT else BAD_ENTRY, where, shift, entry, zero, zero, 0


def walk(
    facts: Words, starts: Words, ends: Words, bases: Any, address: int, at: Words, values: Words
) -> tuple[int, int, int, int]:
    """(fault, physical address, shift of the page size, entries read) of an effective address.

    at, values  filled with the physical address and the value of each entry on the way
    """
    where, shift, level = (
        place(address, facts[ROOT], facts[LEVEL], facts[LEVEL + 1]),
        facts[LEVEL],
        0,
    )
    for n in range(MAX_STEPS):
        extent = find(starts, ends, where)
        fault, found, size, entry, below, shift, level = step(
            facts, starts, bases, address, where, extent, shift, level
        )
        if fault == NOT_RESIDENT:
            return fault, found, size, n
        at[n], values[n] = where, entry
        if fault != GOING:
            return fault, found, size, n + 1
        where = below
    return BAD_ENTRY, found, size, MAX_STEPS


def without_tables(
    facts: Words, list_starts: Words, list_physical: Words, address: int
) -> tuple[int, int, int]:
    """(fault, physical address, shift) of an address that no table is for; GOING for the others.

    list_starts, list_physical  effective and physical addresses of the pieces of vmemmap, sorted
    """
    if facts[LINEAR_FIRST] <= address <= facts[LINEAR_LAST]:
        return OK, address - facts[LINEAR_FIRST], facts[PAGE_SHIFT]
    if facts[LIST_FIRST] <= address <= facts[LIST_LAST]:
        piece = last_not_above(list_starts, address)
        if piece >= 0 and (address - list_starts[piece]) >> facts[LIST_SHIFT] == u64(0):
            return OK, list_physical[piece] + (address - list_starts[piece]), facts[LIST_SHIFT]
        return NOT_MAPPED, u64(0), facts[LIST_SHIFT]
    if address < facts[FIRST] or address > facts[LAST]:
        return OUTSIDE, u64(0), u64(0)
    return GOING, u64(0), u64(0)


def translate(
    facts: Words,
    list_starts: Words,
    list_physical: Words,
    starts: Words,
    ends: Words,
    bases: Any,
    address: int,
    at: Words,
    values: Words,
) -> tuple[int, int, int, int]:
    """As `walk`, for a whole address space: the linear map and vmemmap may not be in the tables."""
    fault, found, shift = without_tables(facts, list_starts, list_physical, address)
    if fault != GOING:
        return fault, found, shift, 0
    return walk(facts, starts, ends, bases, address, at, values)


# Addresses go down in blocks, level by level. The entry that an address needs next is asked for at
# once and read a block later: reads of memory do not wait for each other.
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
