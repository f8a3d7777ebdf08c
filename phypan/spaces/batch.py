"""Batches: the kernels run over many addresses, in the mode of this host, pages fetched on demand.

A kernel that needs memory which is not resident says which; it is fetched, and the addresses in
question are tried again. What no fetching helps is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from phypan.kernels import leaves, modes, tables
from phypan.kernels.modes import Mode
from phypan.spaces.resident import Extents, Resident

MAX_ENTRIES = 1 << 27  # of page tables, read by one walk over all of them
MAX_RANGES = 1 << 22  # that such a walk finds
_AT_ONCE = 1 << 14  # ranges


@dataclass(frozen=True)
class Batch:
    """What became of many effective addresses: arrays with an element for each.

    physical  uint64, physical addresses; where there is a fault, that of the entry at fault
    entries   uint64, the last entry that was read: of a page, the one that maps it
    shifts    uint8, the page is 1 << shift bytes large
    faults    uint8, 0 or a code of phypan.kernels.tables; FAULTS has words for them
    indices   of a hashed page table: uint64, the entry's index; else None

    They are numpy's, or array.array on hosts without numpy.
    """

    physical: Any
    entries: Any
    shifts: Any
    faults: Any
    indices: Any = None


FAULTS = {
    tables.NOT_MAPPED: "not mapped",
    tables.BAD_ENTRY: "an entry that is no page table entry",
    tables.NOT_RESIDENT: "an entry that the dump does not hold",
    tables.OUTSIDE: "outside of the address space",
    tables.CYCLE: "a page table that leads to itself",
}

# (mode, extents, addresses, results) -> None: runs a kernel
Call = Callable[[Mode, Extents, Any, Batch], None]


def translate(
    resident: Resident, call: Call, addresses: Iterable[int], *, indices: bool = False
) -> Batch:
    """What `call` makes of the effective addresses."""
    how = modes.mode()
    resident.trim()
    wanted = modes.words(addresses, how)
    result = _empty(len(wanted), how, indices)
    call(how, resident.extents(how), wanted, result)
    while True:
        again = _places(result.faults, tables.NOT_RESIDENT)
        if not len(again) or not resident.fetch(result.physical[n] for n in again):
            return result
        some = modes.words([wanted[n] for n in again], how)
        part = _empty(len(some), how, indices)
        call(how, resident.extents(how), some, part)
        for name in ("physical", "entries", "shifts", "faults", "indices"):
            whole, new = getattr(result, name), getattr(part, name)
            if whole is not None:
                _scatter(whole, again, new)


def _empty(count: int, how: Mode, indices: bool) -> Batch:
    return Batch(
        modes.zeros(count, how),
        modes.zeros(count, how),
        modes.zeros(count, how, small=True),
        modes.zeros(count, how, small=True),
        modes.zeros(count, how) if indices else None,
    )


def _places(values: Any, code: int) -> Any:
    if hasattr(values, "nonzero"):
        return (values == code).nonzero()[0]
    return [n for n, value in enumerate(values) if value == code]


def _scatter(whole: Any, places: Any, new: Any) -> None:
    if hasattr(whole, "nonzero"):
        whole[places] = new
    else:
        for place, value in zip(places, new, strict=True):
            whole[place] = value


def call_tables(facts: list[int], pieces: Sequence[tuple[int, int]]) -> Call:
    """The kernel of page tables; `pieces`: (effective, physical) addresses of vmemmap, sorted."""

    def call(how: Mode, extents: Extents, addresses: Any, result: Batch) -> None:
        given = (
            modes.words(facts, how),
            modes.words([first for first, _ in pieces], how),
            modes.words([physical for _, physical in pieces], how),
            *extents.arrays,
            addresses,
        )
        filled = (result.physical, result.entries, result.shifts, result.faults)
        if how == "numpy":
            from phypan.kernels.twins import tables as twin

            twin.many(*given, *filled)
            return
        many = tables.many
        if how == "numba":
            from phypan.kernels import compiled

            many = compiled.tables_many
        many(*given, modes.zeros(tables.WAYS, how), *filled)

    return call


@dataclass(frozen=True, slots=True)
class Range:
    """Effective addresses that map physical ones, or that a fault is in the way of.

    first, size  effective address and bytes
    physical     physical address of the first byte; for a fault, that of the entry
    flags        bits of the entries that are not an address
    shift        the pages are 1 << shift bytes large
    fault        0 or a code of phypan.kernels.tables
    """

    first: int
    size: int
    physical: int
    flags: int
    shift: int
    fault: int = 0


class TooManyEntries(Exception):
    """The tables have more entries than a walk may read. Callers make a Problem of it."""


def ranges(
    resident: Resident,
    facts: list[int],
    *,
    alike: bool = False,
    how: Mode | None = None,
    budget: int = MAX_ENTRIES,
) -> Iterator[Range]:
    """All that a tree of page tables maps, in order of address; neighbours that fit made one.

    alike   neighbours fit if they are mapped alike, wherever they are in physical memory
    budget  entries that may be read

    Raises TooManyEntries behind the last range that it has found within these limits.
    """
    how = how or modes.mode()
    resident.trim()
    walk = _by_twin if how == "numpy" else _by_scalar
    last: Range | None = None
    for count, found in enumerate(walk(resident, facts, how, budget, alike)):
        if last is not None and _continues(last, found, alike):
            size = last.size + found.size
            last = Range(last.first, size, last.physical, last.flags, last.shift)
            continue
        if last is not None:
            yield last
        last = found
        if found is _END or count == MAX_RANGES:
            raise TooManyEntries
    if last is not None:
        yield last


def _continues(a: Range, b: Range, alike: bool) -> bool:
    return (
        a.first + a.size == b.first
        and (alike or a.physical + a.size == b.physical)
        and (a.flags, a.shift, a.fault, b.fault) == (b.flags, b.shift, tables.OK, tables.OK)
    )


_END = Range(0, 0, 0, 0, 0)  # the budget is spent


def _by_scalar(
    resident: Resident, facts: list[int], how: Mode, budget: int, alike: bool
) -> Iterator[Range]:
    walk = leaves.leaves
    if how == "numba":
        from phypan.kernels import compiled

        walk = compiled.leaves
    words, state = modes.words(facts, how), modes.zeros(leaves.STATE, how)
    state[leaves.BUDGET], state[leaves.ALIKE] = budget, int(alike)
    out = modes.zeros(leaves.RANGE * _AT_ONCE, how)
    while True:
        stopped, count = walk(words, *resident.extents(how).arrays, state, out)
        for n in range(count):
            yield Range(*map(int, out[leaves.RANGE * n : leaves.RANGE * (n + 1)]))
        if stopped == leaves.EXHAUSTED:
            yield _END
        if stopped in (leaves.DONE, leaves.EXHAUSTED):
            return
        if stopped == leaves.MISSING and not resident.fetch([int(state[leaves.WHERE])]):
            state[leaves.SKIP] = 1


def _by_twin(
    resident: Resident, facts: list[int], how: Mode, budget: int, alike: bool
) -> Iterator[Range]:
    from phypan.kernels.twins import leaves as twin

    words = modes.words(facts, how)
    while True:
        lasted, rows, missing = twin.leaves(words, *resident.extents(how).arrays, budget, alike)
        if not resident.fetch(missing.tolist()):
            break
    for row in rows.tolist():
        yield Range(*row)
    if not lasted:
        yield _END
