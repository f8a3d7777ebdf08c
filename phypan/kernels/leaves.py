"""All that a tree of page tables maps, as ranges: a walk over every entry, in order of address.

The walk can stop at any entry and go on there: when the arrays for its result are full, when the
memory of an entry is not resident, when it has read as many entries as it may. So its memory and
its time are bounded, whatever the tables hold. A table that is its own ancestor is not entered
again.
"""

from __future__ import annotations

from typing import Any

from phypan.kernels.tables import (
    BAD,
    BAD_ENTRY,
    BIG,
    CYCLE,
    FLAGS,
    LEAF,
    LEVEL,
    MAX_STEPS,
    NOT_RESIDENT,
    OK,
    ROOT,
    TABLE,
    TOP,
    descend,
    target,
)
from phypan.kernels.words import Words, find, i64, load, u64

# Why the walk stopped.
DONE, FULL, MISSING, EXHAUSTED = 0, 1, 2, 3

# Places in `state`. It starts as zeros, but for BUDGET.
STARTED = 0
DEPTH = 1  # tables that are open; the last is the one being read
READ = 2  # entries read so far
BUDGET = 3  # entries that may be read
WHERE = 4  # MISSING: the physical address of the entry that is not resident
SKIP = 5  # set to 1 to go on behind that entry
ALIKE = 6  # 1: ranges grow by what is mapped alike, wherever it is in physical memory
STACK = 7  # from here on, words for each open table
S_TABLE, S_INDEX, S_SHIFT, S_BITS, S_PREFIX, S_LEVEL, STACK_WORDS = 0, 1, 2, 3, 4, 5, 6
STATE = STACK + STACK_WORDS * MAX_STEPS

# A range in `out`: words at RANGE * n
FIRST = 0  # effective address
SIZE = 1  # bytes
PHYSICAL = 2  # physical address; for a fault, that of the entry
ENTRY_FLAGS = 3  # the leaves' bits that are not an address
SHIFT = 4  # page size 1 << SHIFT
FAULT = 5  # OK, BAD_ENTRY, NOT_RESIDENT or CYCLE
RANGE = 6


def put(
    out: Words,
    count: int,
    alike: int,
    first: int,
    size: int,
    physical: int,
    flags: int,
    shift: int,
    fault: int,
) -> int:
    """Add a range to the `count` in `out`, or let the last one grow; how many there are then."""
    if count > 0 and fault == u64(OK):
        last = RANGE * (count - 1)
        if (
            out[last + FAULT] == fault
            and out[last + FIRST] + out[last + SIZE] == first
            and (alike != u64(0) or out[last + PHYSICAL] + out[last + SIZE] == physical)
            and out[last + ENTRY_FLAGS] == flags
            and out[last + SHIFT] == shift
        ):
            out[last + SIZE] += size
            return count
    at = RANGE * count
    out[at + FIRST] = first
    out[at + SIZE] = size
    out[at + PHYSICAL] = physical
    out[at + ENTRY_FLAGS] = flags
    out[at + SHIFT] = shift
    out[at + FAULT] = fault
    return count + 1


def push(
    state: Words, depth: int, table: int, shift: int, bits: int, prefix: int, level: int
) -> int:
    """Open a table; CYCLE if it is open already, BAD_ENTRY if too many are; else OK."""
    for n in range(depth):
        if state[STACK + STACK_WORDS * n + S_TABLE] == table:
            return CYCLE
    if depth == MAX_STEPS:
        return BAD_ENTRY
    row = STACK + STACK_WORDS * depth
    state[row + S_TABLE] = table
    state[row + S_INDEX] = u64(0)
    state[row + S_SHIFT] = shift
    state[row + S_BITS] = bits
    state[row + S_PREFIX] = prefix
    state[row + S_LEVEL] = u64(level)
    return OK


def visit(
    facts: Words,
    state: Words,
    depth: int,
    entry: int,
    where: int,
    first: int,
    out: Words,
    count: int,
) -> tuple[int, int]:
    """(tables open, ranges) after an entry that is not 0 has been taken in."""
    row = STACK + STACK_WORDS * (depth - 1)
    shift, level = state[row + S_SHIFT], i64(state[row + S_LEVEL])
    size = u64(1) << shift
    kind, table, below, bits, above = descend(facts, entry, shift, level)
    if kind == LEAF:
        physical, page = target(facts, entry, shift, level)
        flags = entry & facts[FLAGS]
        if page < shift:  # 4K pages on a kernel of 64K pages: all of the range is this one page
            size = u64(1) << page
        alike = state[ALIKE]
        return depth, put(out, count, alike, first, size, physical, flags, page, u64(OK))
    fault = BAD_ENTRY if kind == BAD else OK
    if kind == TABLE:
        fault = push(state, depth, table, below, bits, first, above)
        if fault == OK:
            return depth + 1, count
    if fault != OK:
        count = put(out, count, u64(0), first, size, where, u64(0), shift, u64(fault))
    return depth, count


def leaves(
    facts: Words, starts: Words, ends: Words, bases: Any, state: Words, out: Words
) -> tuple[int, int]:
    """(why it stopped, ranges in `out`). Call it again with the same `state` to go on."""
    depth = i64(state[DEPTH])
    capacity = len(out) // RANGE
    count = 0
    stopped = DONE
    if state[STARTED] == u64(0):
        state[STARTED] = u64(1)
        push(state, 0, facts[ROOT], facts[LEVEL], facts[LEVEL + 1], facts[TOP], 0)
        depth = 1
    while depth > 0 and stopped == DONE:
        row = STACK + STACK_WORDS * (depth - 1)
        index, shift = state[row + S_INDEX], state[row + S_SHIFT]
        if index >> state[row + S_BITS] != u64(0):
            depth -= 1
            continue
        where = state[row + S_TABLE] + (index << u64(3))
        first = state[row + S_PREFIX] | index << shift
        extent = find(starts, ends, where)
        if count == capacity:
            stopped = FULL
        elif extent < 0 and state[SKIP] == u64(0):
            state[WHERE] = where
            stopped = MISSING
        elif state[READ] >= state[BUDGET]:
            stopped = EXHAUSTED
        else:
            state[READ] += u64(1)
            state[row + S_INDEX] = index + u64(1)
            if extent < 0:
                state[SKIP] = u64(0)
                size = u64(1) << shift
                fault = u64(NOT_RESIDENT)
                count = put(out, count, u64(0), first, size, where, u64(0), shift, fault)
            else:
                entry = load(bases, extent, where - starts[extent], facts[BIG])
                if entry != u64(0):
                    depth, count = visit(facts, state, depth, entry, where, first, out, count)
    state[DEPTH] = u64(depth)
    return stopped, count
