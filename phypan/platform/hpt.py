"""The partition's hashed page table, kept by the hypervisor and changed by hypervisor calls.

LoPAR 2.9, "Hypervisor Call Functions", H_ENTER, H_REMOVE, H_READ; return codes as there. Entries
have the old form on every processor (see phypan.formats.hpte).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from phypan.errors import OutputError, os_errors
from phypan.formats import hpte

H_SUCCESS, H_PARAMETER, H_NOT_FOUND, H_PTEG_FULL = 0, -4, -7, -6
H_EXACT = 1 << (63 - 24)  # H_ENTER: this very entry, not any of its group
H_AVPN = 1 << (63 - 32)  # H_REMOVE: only if the AVPN matches
H_ANDCOND = 1 << (63 - 33)  # H_REMOVE: only if (first doubleword & AVPN) is zero
H_READ_4 = 1 << (63 - 26)  # H_READ: four entries from the aligned index on
VRMA_PAGE_SHIFT = 24


class HashedPageTable:
    """A table of 2^`shift` bytes, most of it empty."""

    def __init__(self, shift: int) -> None:
        self.shift = shift
        self.groups = 1 << (shift - 7)
        self._entries: dict[int, tuple[int, int]] = {}

    def h_enter(self, flags: int, ptex: int, first: int, second: int) -> tuple[int, int]:
        """(status, index): enter a valid entry at `ptex`, or in a free slot of its group."""
        if not self._inside(ptex) or not first & hpte.VALID:
            return H_PARAMETER, 0
        slots = [ptex] if flags & H_EXACT else range(ptex & ~7, (ptex & ~7) + hpte.SLOTS)
        for index in slots:
            if index not in self._entries:
                self._entries[index] = first, second
                return H_SUCCESS, index
        return H_PTEG_FULL, 0

    def h_remove(self, flags: int, ptex: int, avpn: int) -> tuple[int, int, int]:
        """(status, first, second): take the entry out, if it is what the caller thinks it is."""
        if not self._inside(ptex):
            return H_PARAMETER, 0, 0
        entry = self._entries.get(ptex)
        if entry is None:
            return H_NOT_FOUND, 0, 0
        if flags & H_AVPN and (entry[0] & ~0x7F) != avpn:
            return H_NOT_FOUND, 0, 0
        if flags & H_ANDCOND and entry[0] & avpn:
            return H_NOT_FOUND, 0, 0
        del self._entries[ptex]
        return (H_SUCCESS, *entry)

    def h_read(self, flags: int, ptex: int) -> tuple[int, list[tuple[int, int]]]:
        """(status, entries): one, or the four from the index rounded down."""
        if not self._inside(ptex):
            return H_PARAMETER, []
        indexes = range(ptex & ~3, (ptex & ~3) + 4) if flags & H_READ_4 else [ptex]
        return H_SUCCESS, [self._entries.get(index, (0, 0)) for index in indexes]

    def _inside(self, ptex: int) -> bool:
        return 0 <= ptex < self.groups * hpte.SLOTS

    def map_vrma(self, size: int) -> None:
        """Map the virtualised real mode area: offset is address, in pages of 16 MiB, bolted.

        The firmware does so before Open Firmware is started (LoPAR, "Virtualized Real Mode Area").
        """
        page = 1 << VRMA_PAGE_SHIFT
        for real in range(0, size, page):
            hashed = hpte.primary_hash(hpte.VRMA_VSID, real, 40, VRMA_PAGE_SHIFT)
            avpn = (hpte.VRMA_VSID << 40 | real) >> 23 & ~1
            first = 1 << hpte.B_SHIFT | avpn << hpte.AVPN_SHIFT
            first |= hpte.SOFTWARE_BOLTED | hpte.LARGE | hpte.VALID
            second = real | hpte.REFERENCED | hpte.CHANGED | 0x10  # coherent memory
            self.h_enter(0, (hashed & (self.groups - 1)) * hpte.SLOTS, first, second)

    def vrma_entries(self) -> Iterator[tuple[int, int, int]]:
        """(index, first, second) of what maps the VRMA, in no order, as the save area has them."""
        for index, (first, second) in self._entries.items():
            if hpte.decode(index, first, second).vrma:
                yield index, first, second

    def save(self, path: Path) -> None:
        """Write the whole table, big-endian, in the order of its indexes, to a sparse file."""
        with os_errors(OutputError, path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                for index, entry in sorted(self._entries.items()):
                    file.seek(index * hpte.ENTRY.size)
                    file.write(hpte.ENTRY.pack(*entry))
                file.truncate(1 << self.shift)
