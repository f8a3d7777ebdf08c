"""The hashed page table: effective, virtual and real addresses, as the hardware has them.

Power ISA 2.07 and 3.0, Book III, "Virtual Address Generation", "Virtual to Real Translation". An
effective address becomes a virtual one through its segment, and a real one through an entry that is
found by hashing. The entries are in a table of the hypervisor (an image of it is a file beside the
dump) or, without a hypervisor, in memory. For Linux the table is a cache of its page tables, but
for the linear map and vmemmap, which are nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from phypan.errors import BadRecord
from phypan.formats import hpte
from phypan.formats.hpte import Hpte
from phypan.kernels import hashed, modes, tables
from phypan.memory import Memory
from phypan.spaces import batch
from phypan.spaces.batch import Batch
from phypan.spaces.hashtable import HashTable
from phypan.spaces.resident import Extents
from phypan.spaces.space import MappedRange, Protection, Space, Step, Translation
from phypan.spaces.vsid import Scheme


@dataclass(frozen=True)
class Segment:
    """An entry of a CPU's SLB: where a segment begins, its size, its VSID, its base page size."""

    address: int
    shift: int  # 28 or 40
    vsid: int
    base_shift: int


def slb_segment(esid: int, vsid: int) -> Segment | None:
    """The segment of an SLB entry's two doublewords; None if it is not valid.

    Power ISA, "Segment Lookaside Buffer": V 0x08000000, B at bit 62, VSID from bit 12 (256 MiB) or
    24 (1 TiB) on, L 0x100 and LP 0x30.
    """
    if not esid & 0x08000000:
        return None
    shift = 40 if vsid >> hpte.B_SHIFT & 3 == 1 else 28
    base = hpte.SLB_LLP_SHIFT.get(vsid & (hpte.SLB_L | hpte.SLB_LP))
    if base is None:
        raise BadRecord(f"no page size has L and LP of {vsid:#x}", where="SLB entry")
    number = (vsid & 0x3FFFFFFFFFFFF000) >> (24 if shift == 40 else 12)
    return Segment(esid >> shift << shift, shift, number, base)


def protection(entry: Hpte, *, user: bool) -> Protection:
    """What an entry allows: with the key that Linux gives the kernel's, or a process's segments.

    Power ISA, "Virtual Page Class Key" and "Page Protection": Linux has Ks = 0 and Kp = 1 in kernel
    segments, and 1 in both of user segments, where pp is the process's protection.
    """
    code = entry.protection
    if user:
        read, write = code in (1, 2, 3), code == 2
    else:
        read, write = code in (0, 1, 2, 3, 6), code in (0, 1, 2)
    inhibited = "I" in entry.wimg
    return Protection(read, write, not entry.second & hpte.NO_EXECUTE, user, inhibited)


class HashSpace(Space):
    """Effective addresses that a hashed page table translates to addresses of `memory`.

    segments  a CPU's; without them those that Linux makes by `scheme`: of the kernel, and of the
              process with `context` (mm->context.id)
    """

    def __init__(
        self,
        name: str,
        memory: Memory,
        table: HashTable,
        scheme: Scheme,
        *,
        segments: Iterable[Segment] = (),
        context: int = 0,
    ) -> None:
        super().__init__(memory)
        self.name, self.table, self.scheme, self.context = name, table, scheme, context
        self._slb = [
            word for s in segments for word in (s.address, s.shift, s.vsid, s.base_shift)
        ]  # fmt: skip

    def translate(self, address: int) -> Translation:
        """What an effective address translates to; `steps` are the entry's two doublewords."""
        found = [0, 0, 0]
        while True:
            memory = self.table.resident.extents("plain").arrays
            given = (self.table.words, self.table.size_words, *memory, address, found)
            if self._slb:
                fault, real, shift = hashed.by_slb(self._slb, *given)
            else:
                fault, real, shift = hashed.by_scheme(self.scheme.words, self.context, *given)
            if fault != tables.NOT_RESIDENT or not self.table.resident.fetch([real]):
                break
        if fault != tables.OK:
            return Translation(address, None, self._why(fault, real))
        entry = self.table.entry(found[0])
        where = self.table.start + found[0] * hpte.ENTRY.size
        group = "secondary" if entry.secondary else "primary"
        steps = (
            Step(f"HPTE {found[0]:#x}, {group} group", where, found[1]),
            Step("second doubleword", where + 8, found[2]),
        )
        allowed = protection(entry, user=address >> 60 < 0xC)
        return self.stated(
            Translation(address, real, None, 1 << shift, allowed, steps, how="hashed page table")
        )

    def _why(self, fault: int, where: int) -> str:
        if fault == tables.NOT_RESIDENT:
            return f"the group of entries at {where:#x} is not in the dump"
        if fault == tables.OUTSIDE:
            return "in no segment"
        return "no entry in the primary and the secondary group"

    def translate_many(self, addresses: Iterable[int]) -> Batch:
        """Many addresses at once, as arrays; `entries` are second doublewords."""
        return batch.translate(self.table.resident, self._call, addresses, indices=True)

    def _call(self, how: modes.Mode, extents: Extents, addresses: Any, result: Batch) -> None:
        context: Any = self.context
        if how == "numba":
            import numpy as np

            context = np.uint64(context)
        slb, scheme = (modes.words(words, how) for words in (self._slb, self.scheme.words))
        words, sizes = (modes.words(w, how) for w in (self.table.words, self.table.size_words))
        given = (slb, scheme, context, words, sizes, *extents.arrays, addresses)
        filled = (result.physical, result.entries, result.shifts, result.faults, result.indices)
        if how == "numpy":
            from phypan.kernels.twins import hashed as twin

            twin.many(*given, *filled)
            return
        many = hashed.many
        if how == "numba":
            from phypan.kernels import compiled

            many = compiled.hashed_many
        many(*given, modes.zeros(3, how), *filled)

    def mappings(self, *, alike: bool = False) -> Iterator[MappedRange]:
        """All pages of the kernel, or of the process with this context, that have an entry."""
        found = [
            page
            for page in self.table.pages(self.scheme)
            if page.context == self.context and page.entry.actual_shift
        ]
        last: MappedRange | None = None
        for page in sorted(found, key=lambda page: page.address):
            size = 1 << (page.entry.actual_shift or 12)
            allowed = protection(page.entry, user=self.context != 0)
            first = page.address & ~(size - 1)
            new = MappedRange(first, size, page.entry.real, size, allowed)
            if last is not None and first < last.end:
                continue  # a large page has an entry for each of its base pages
            if last is not None and _follows(last, new):
                new = MappedRange(last.first, last.size + size, last.physical, size, allowed)
            elif last is not None:
                yield last
            last = new
        if last is not None:
            yield last


def _follows(a: MappedRange, b: MappedRange) -> bool:
    same = (a.page_size, a.protection) == (b.page_size, b.protection)
    return same and (a.end, a.physical_end) == (b.first, b.physical)
