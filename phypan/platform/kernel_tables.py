"""The radix guest's own page tables: the linear map, stacks in vmalloc, a device's registers.

Where Linux since 5.2 has them: create_physical_mapping(), __vmalloc() and ioremap() in
arch/powerpc/mm, and the starts of regions in asm/book3s/64/radix.h. A guest with a hashed page
table runs with an empty top table as well, as if nothing but the linear map was ever needed.
"""

from __future__ import annotations

from phypan.formats._records import ByteOrder
from phypan.platform.page_tables import PAGE_OFFSET, LinuxTables, Page, Ram, Release

_VMALLOC, _IO = 0xC008 << 48, 0xC00A << 48
_REGISTERS = 0x200 << 32  # physical address of a device: PCI memory, as QEMU has it
_FOLDER = 0x750000  # tables below the top one lie from here on
_HUGE, _LARGE = 30, 21  # shifts of the linear map's pages
_STACKS = 24


def write(
    ram: Ram, root: int, *, page_shift: int, release: Release, order: ByteOrder, size: int
) -> None:
    """Write the tables of a kernel in `size` bytes of memory; the top one is at `root`."""
    places = _Places(root)
    tables = LinuxTables(
        ram, places.allocate, mmu="radix", page_shift=page_shift, release=release, order=order
    )
    _map_linearly(tables, size)
    for number in range(_STACKS):
        place = (root >> page_shift) + number << page_shift
        at = 3 * number << page_shift  # with a guard page before and behind
        tables.map(_VMALLOC + at, place, Page(page_shift))
        tables.map(_IO + at, _REGISTERS + at, Page(page_shift, uncached=True))


def _map_linearly(tables: LinuxTables, size: int) -> None:
    """Memory at PAGE_OFFSET, with pages that are as large as they can be."""
    start = 0
    while start + (1 << _LARGE) <= size:
        shift = _HUGE if start % (1 << _HUGE) == 0 and start + (1 << _HUGE) <= size else _LARGE
        tables.map(PAGE_OFFSET + start, start, Page(shift, execute=True))
        start += 1 << shift


class _Places:
    """Memory for tables: the top one where the kernel's image has it, the others in a row."""

    def __init__(self, root: int) -> None:
        self._root: int | None = root
        self._next = _FOLDER

    def allocate(self, size: int) -> int:
        """The place of a table of `size` bytes, a power of two, aligned to that."""
        if self._root is not None:
            root, self._root = self._root, None
            return root
        place = -(-self._next // size) * size
        self._next = place + size
        return place
