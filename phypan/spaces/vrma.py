"""The virtualised real mode area (VRMA), by the entries that firmware saved of it (HPTESAVE).

Addresses of a partition in real mode are offsets in the virtual segment VRMA_VSID of 1 TiB. What
kind of page number the firmware saves is written nowhere; where an entry's is not the offset that
the entry is for, the offset counts, since a partition sees its own addresses there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from phypan.formats.device_tree import Node
from phypan.formats.hpte import GROUP_BYTES, Hpte
from phypan.kernels import modes, tables
from phypan.memory import Memory
from phypan.spaces.batch import Batch
from phypan.spaces.hash import protection
from phypan.spaces.space import MappedRange, Space, Step, Translation


def groups(root: Node | None) -> int | None:
    """Number of groups in the partition's page table, by ibm,pft-size (LoPAR, "CPU Node")."""
    cpus = root.child("cpus") if root else None
    for node in cpus.children if cpus else ():
        data = node.properties.get("ibm,pft-size", b"")
        if len(data) == 8:
            shift = int.from_bytes(data[4:], "big")
            return (1 << shift) // GROUP_BYTES if 18 <= shift <= 46 else None
    return None


def offset(entry: Hpte, table_groups: int | None) -> int | None:
    """The offset in the VRMA that an entry is for; None if it is none of the VRMA's.

    For pages of less than 8 MiB that needs the number of groups; without it the real page counts.
    """
    if not (entry.valid and entry.vrma) or entry.actual_shift is None:
        return None
    if table_groups is None and (entry.base_shift or 0) < 23:
        return entry.real
    return entry.virtual(table_groups or 1) & (1 << 40) - 1 & ~((1 << entry.actual_shift) - 1)


class VrmaSpace(Space):
    """Real mode addresses of the partition while firmware ran: offsets in the VRMA.

    placed  all saved entries with their offsets, in that order; those that have none come last.
            Where several are for one page, the one with the lowest index is used
    """

    def __init__(self, memory: Memory, entries: Iterable[Hpte], table_groups: int | None) -> None:
        super().__init__(memory)
        self.name = "vrma"
        self.placed = sorted(
            ((offset(entry, table_groups), entry) for entry in entries),
            key=lambda pair: (pair[0] is None, pair[0] or 0, pair[1].index),
        )
        pages = {place: entry for place, entry in reversed(self.placed) if place is not None}
        self._pages = sorted(pages.items(), key=lambda page: page[0])
        self._starts = [start for start, _ in self._pages]

    def translate(self, address: int) -> Translation:
        """What an address in real mode stands for."""
        place = bisect_right(self._starts, address) - 1
        if place >= 0:
            start, entry = self._pages[place]
            size = 1 << (entry.actual_shift or 12)
            if address - start < size:
                steps = (
                    Step(f"saved HPTE {entry.index:#x}", entry.index, entry.first),
                    Step("second doubleword", entry.index, entry.second),
                )
                allowed = protection(entry, user=False)
                how = "HPTE save area"
                return self.stated(
                    Translation(address, address, None, size, allowed, steps, how=how)
                )
        return Translation(address, None, "no saved entry maps it")

    def translate_many(self, addresses: Iterable[int]) -> Batch:
        """Many addresses, as arrays; `entries` are second doublewords."""
        found = [self.translate(int(address)) for address in addresses]
        how = modes.mode()
        fault = (tables.OK if one.physical is not None else tables.NOT_MAPPED for one in found)
        codes = modes.zeros(len(found), how, small=True)
        shifts = modes.zeros(len(found), how, small=True)
        for n, (one, code) in enumerate(zip(found, fault, strict=True)):
            codes[n], shifts[n] = code, max(one.page_size, 1).bit_length() - 1
        physical = modes.words([one.physical or 0 for one in found], how)
        entries = modes.words([one.steps[-1].value if one.steps else 0 for one in found], how)
        return Batch(physical, entries, shifts, codes)

    def mappings(self, *, alike: bool = False) -> Iterator[MappedRange]:
        """The saved pages."""
        for start, entry in self._pages:
            size = 1 << (entry.actual_shift or 12)
            yield MappedRange(start, size, start, size, protection(entry, user=False))
