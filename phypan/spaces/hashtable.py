"""A hashed page table: a power of two of groups of eight entries, an image of it or in memory."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from phypan.errors import BadRecord
from phypan.formats import device_tree, hpte
from phypan.formats.hpte import Hpte, PageSizes
from phypan.kernels import hashed, modes, tables
from phypan.kernels.hashed import DUPLICATE, MISPLACED
from phypan.kernels.segments import NO_VSID
from phypan.memory import Memory
from phypan.spaces.resident import Resident
from phypan.spaces.vsid import Scheme

_AT_ONCE = 1 << 15  # entries
SMALLEST, LARGEST = 1 << 18, 1 << 46  # bytes of a table (Power ISA, "Hashed Page Table")


def page_sizes(root: device_tree.Node | None) -> PageSizes:
    """Page sizes of a partition, from ibm,segment-page-sizes; else those of POWER7 and later.

    LoPAR 2.9, "CPU Node": for each base size its shift, SLB encoding and a count, then that many
    pairs of shift and encoding in an entry.
    """
    cpus = root.child("cpus") if root else None
    for node in cpus.children if cpus else ():
        data = node.properties.get("ibm,segment-page-sizes")
        if data:
            found = _segment_page_sizes(
                struct.unpack(f">{len(data) // 4}I", data[: len(data) & ~3])
            )
            if found:
                return found
    return hpte.POWER7_PAGE_SIZES


def _segment_page_sizes(cells: Sequence[int]) -> PageSizes:
    found: dict[tuple[int, int], int] = {}
    at = 0
    while at + 3 <= len(cells):
        base, _, count = cells[at : at + 3]
        pairs = cells[at + 3 : at + 3 + 2 * count]
        for shift, encoding in zip(pairs[::2], pairs[1::2], strict=False):
            if 12 <= base <= 40 and base <= shift <= 40:
                found[base, shift] = encoding
        at += 3 + 2 * count
    return found


@dataclass(frozen=True, slots=True)
class HashedPage:
    """A valid entry and the page that it is for.

    entry      the doublewords, decoded, in the old form
    context    0 of the kernel's, None of the VRMA's, else mm->context.id
    address    effective address of the page's first byte; of the VRMA its offset
    misplaced  the entry is in a group that its address does not hash to
    duplicate  another entry for the same page is found before it
    """

    entry: Hpte
    context: int | None
    address: int
    misplaced: bool
    duplicate: bool


@dataclass
class Statistics:
    """What is in a table, counted. `occupancy[n]` is the number of groups with n valid entries."""

    groups: int
    occupancy: tuple[int, ...] = ()
    entries: int = 0
    secondary: int = 0
    bolted: int = 0
    kernel: int = 0
    vrma: int = 0
    contexts: int = 0
    misplaced: int = 0
    duplicate: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # shifts (base, actual)
    missing: int = 0  # groups that the dump does not hold


class HashTable:
    """A hashed page table: `size` bytes, a power of two, at `start` of `memory`.

    v3  its entries have the form of ISA 3.0 (of bare-metal POWER9 and later)
    """

    def __init__(
        self, memory: Memory, start: int, size: int, sizes: PageSizes, *, v3: bool = False
    ) -> None:
        if size & (size - 1) or not SMALLEST <= size <= LARGEST:
            raise BadRecord(
                f"{size:#x} bytes, not a power of two from {SMALLEST:#x} on",
                where="hashed page table",
                hint="give the whole table as it was, 16 bytes for each entry",
            )  # fmt: skip
        self.resident, self.start, self.size, self.v3 = Resident(memory), start, size, v3
        self.sizes = sizes
        self.groups = size // hpte.GROUP_BYTES
        flat = [(base, shift, penc) for (base, shift), penc in sizes.items()]
        self.size_words = [word for triple in flat for word in triple]
        self.words = [start, self.groups, int(v3)]

    def entry(self, index: int) -> Hpte:
        """An entry, decoded, in the old form."""
        data = self.resident.memory.read(self.start + index * hpte.ENTRY.size, hpte.ENTRY.size)
        first, second = hpte.ENTRY.unpack(data)
        if self.v3:
            first, second = hpte.from_v3(first, second)
        return hpte.decode(index, first, second, page_sizes=self.sizes)

    def pages(self, scheme: Scheme) -> Iterator[HashedPage]:
        """All valid entries in stored order; groups that the dump does not hold are left out."""
        for chunk in self._scan(scheme):
            rows = chunk.tolist()
            for at in range(0, len(rows), hashed.SCAN_WORDS):
                index, first, second, base, actual, context, address, wrong = rows[
                    at : at + hashed.SCAN_WORDS
                ]
                yield HashedPage(
                    Hpte(index, first, second, base or None, actual or None),
                    None if context == NO_VSID else context,
                    address,
                    bool(wrong & MISPLACED),
                    bool(wrong & DUPLICATE),
                )

    def _scan(self, scheme: Scheme) -> Iterator[Any]:
        """Flat arrays of what kernels.hashed.scan() fills."""
        how = modes.mode()
        given = [modes.words(words, how) for words in (scheme.words, self.words, self.size_words)]
        if how == "numpy":
            yield self._scan_by_twin(given)
            return
        scan: Any = hashed.scan
        if how == "numba":
            from phypan.kernels import compiled

            scan = compiled.hashed_scan
        state, found = modes.zeros(1, how), modes.zeros(3, how)
        out = modes.zeros(_AT_ONCE * hashed.SCAN_WORDS, how)
        while int(state[0]) < self.groups * hpte.SLOTS:
            arrays = self.resident.extents(how).arrays
            fault, count = scan(*given, *arrays, state, found, out)
            yield out[: count * hashed.SCAN_WORDS]
            where = self.start + int(state[0]) * hpte.ENTRY.size
            if fault == tables.NOT_RESIDENT and not self.resident.fetch([where]):
                state[0] = int(state[0]) + 1

    def _scan_by_twin(self, given: Sequence[Any]) -> Any:
        from phypan.kernels.twins import hashed as twin

        scheme, table, sizes = given
        while True:
            arrays = self.resident.extents("numpy").arrays
            rows, missing = twin.scan(scheme, table, sizes, *arrays)
            if not self.resident.fetch(missing.tolist()):
                return rows.reshape(-1)

    def statistics(self, scheme: Scheme) -> Statistics:
        """The entries and groups, counted."""
        result = Statistics(self.groups)
        contexts: set[int] = set()
        for chunk in self._scan(scheme):
            _count(chunk, result, contexts)
        result.contexts = len(contexts - {0, NO_VSID})
        result.occupancy, result.missing = self._occupancy()
        return result

    def _occupancy(self) -> tuple[tuple[int, ...], int]:
        """(groups by their number of entries, groups not held), after a scan has fetched all."""
        how = modes.mode()
        counts = modes.zeros(hpte.SLOTS + 1, how)
        count: Any = hashed.occupancy
        if how == "numba":
            from phypan.kernels import compiled

            count = compiled.hashed_occupancy
        elif how == "numpy":
            from phypan.kernels.twins import hashed as twin

            count = twin.occupancy
        missing = count(modes.words(self.words, how), *self.resident.extents(how).arrays, counts)
        return tuple(int(number) for number in counts), int(missing)


def _count(chunk: Any, result: Statistics, contexts: set[int]) -> None:
    """Add a chunk of a scan."""
    columns = [chunk[place :: hashed.SCAN_WORDS] for place in range(hashed.SCAN_WORDS)]
    first, owner, wrong = (
        columns[place] for place in (hashed.ENTRY_FIRST, hashed.CONTEXT, hashed.WRONG)
    )
    sizes = zip(columns[hashed.BASE].tolist(), columns[hashed.ACTUAL].tolist(), strict=True)
    result.sizes.update(sizes)
    owners = Counter(owner.tolist())
    contexts.update(owners)
    result.entries += len(first)
    result.kernel += owners[0]
    result.vrma += owners[NO_VSID]
    flags = Counter(word & 0xFF for word in first.tolist())
    result.secondary += sum(n for word, n in flags.items() if word & hpte.SECONDARY)
    result.bolted += sum(n for word, n in flags.items() if word & hpte.SOFTWARE_BOLTED)
    faults = Counter(wrong.tolist())
    result.misplaced += sum(n for word, n in faults.items() if word & MISPLACED)
    result.duplicate += sum(n for word, n in faults.items() if word & DUPLICATE)
