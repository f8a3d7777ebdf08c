"""Twin of kernels/leaves.py: many tables of a level are read at a time, then those below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from phypan.kernels.tables import (
    BAD_ENTRY,
    BIG,
    CYCLE,
    FLAGS,
    LEVEL,
    MAX_STEPS,
    NOT_RESIDENT,
    OK,
    ROOT,
    TOP,
)
from phypan.kernels.twins.tables import descend, target
from phypan.kernels.twins.words import Array, gather

_U = np.uint64
AT_ONCE = 1 << 18  # entries


@dataclass
class _Tables:
    """Tables to read: an element for each, in order of address. `way` has the tables above."""

    table: Array
    shift: Array
    bits: Array
    prefix: Array
    level: Array
    way: Array

    def __getitem__(self, chosen: Array | slice) -> _Tables:
        return _Tables(*(getattr(self, part.name)[chosen] for part in fields(self)))


def leaves(
    facts: Array, starts: Array, ends: Array, bases: list[Array], budget: int, alike: bool
) -> tuple[bool, Array, Array]:
    """(whether the budget lasted, ranges, physical addresses of entries that are not resident).

    Each range is a row of `ranges`, its columns the places that kernels.leaves names. An entry
    that is not resident is in both results: fetch it and ask again, or leave it.
    """
    root = np.array([facts[ROOT]])
    top = _Tables(
        root, np.array([facts[LEVEL]]), np.array([facts[LEVEL + 1]]), np.array([facts[TOP]]),
        np.zeros(1, np.int64), np.full((1, MAX_STEPS), facts[ROOT]),
    )  # fmt: skip
    todo = [(top, 1)]  # the last one is the next; with the number of tables on the way to it
    rows: list[Array] = []
    missing = [np.zeros(0, np.uint64)]
    read, lasted = 0, True
    while todo and lasted:
        part, depth = todo.pop()
        read += int((1 << part.bits.astype(np.int64)).sum())
        lasted = read <= budget
        if lasted:
            found, below, lacking = _read(facts, starts, ends, bases, part, depth)
            rows.append(found)
            missing.append(lacking)
            todo += [(more, depth + 1) for more in reversed(list(_parts(below)))]
    return lasted, _merged(rows, alike), np.concatenate(missing)


def _parts(tables: _Tables) -> Iterator[_Tables]:
    """The same tables, so that each part has about AT_ONCE entries at the most."""
    if not tables.table.size:
        return
    sizes = np.cumsum(1 << tables.bits.astype(np.int64))
    cuts = np.searchsorted(sizes, np.arange(AT_ONCE, int(sizes[-1]), AT_ONCE)) + 1
    bounds = [0, *np.unique(cuts).tolist(), tables.table.size]
    for a, b in pairwise(bounds):
        if a < b:
            yield tables[slice(a, b)]


def _read(
    facts: Array, starts: Array, ends: Array, bases: list[Array], part: _Tables, depth: int
) -> tuple[Array, _Tables, Array]:
    """(ranges, tables below, entries that are not resident) of all entries of some tables."""
    counts = 1 << part.bits.astype(np.int64)
    parent = np.repeat(np.arange(part.table.size), counts)
    first_of = np.repeat(np.cumsum(counts) - counts, counts)
    index = (np.arange(parent.size) - first_of).astype(np.uint64)
    where = part.table[parent] + (index << _U(3))
    entry, resident = gather(starts, ends, bases, where, bool(facts[BIG]))
    kept = (entry != 0) | ~resident
    parent, index, where, entry, resident = (
        array[kept] for array in (parent, index, where, entry, resident)
    )
    shift, level = part.shift[parent], part.level[parent]
    address = part.prefix[parent] | index << shift
    below = descend(facts, entry, shift, level)
    page, size = target(facts, entry, shift, level)
    inner = resident & ~below.leaf & ~below.absent & ~below.bad
    cycle = inner & (part.way[parent][:, :depth] == below.table[:, None]).any(axis=1)
    deep = inner & ~cycle & (depth == MAX_STEPS)
    ranges = np.zeros((entry.size, 6), np.uint64)
    leaf = resident & below.leaf
    ranges[:, 0], ranges[:, 1] = address, _U(1) << np.where(leaf, np.minimum(size, shift), shift)
    ranges[:, 2] = np.where(leaf, page, where)
    ranges[:, 3] = np.where(leaf, entry & facts[FLAGS], _U(0))
    ranges[:, 4] = np.where(leaf, size, shift)
    ranges[:, 5] = np.select(
        (~resident, leaf, cycle, below.bad | deep), (NOT_RESIDENT, OK, CYCLE, BAD_ENTRY), OK
    )
    shown = ~resident | leaf | cycle | (resident & below.bad) | deep
    on = inner & ~cycle & ~deep
    way = part.way[parent[on]]
    if on.any() and depth < MAX_STEPS:
        way[:, depth] = below.table[on]
    more = _Tables(
        below.table[on], below.shift[on], below.bits[on], address[on], below.level[on], way
    )
    return ranges[shown], more, where[~resident]


def _merged(rows: list[Array], alike: bool) -> Array:
    """Ranges in order of address; those that continue each other made one."""
    if not rows:
        return np.zeros((0, 6), np.uint64)
    ranges = np.concatenate(rows)
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    if len(ranges) < 2:
        return ranges
    a, b = ranges[:-1], ranges[1:]
    same = (a[:, 0] + a[:, 1] == b[:, 0]) & (alike | (a[:, 2] + a[:, 1] == b[:, 2]))
    same &= (a[:, 3:] == b[:, 3:]).all(axis=1) & (a[:, 5] == OK)
    heads = np.flatnonzero(np.concatenate(([True], ~same)))
    result = ranges[heads]
    result[:, 1] = np.add.reduceat(ranges[:, 1], heads)
    return result
