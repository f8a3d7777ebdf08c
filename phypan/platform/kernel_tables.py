"""The guest's own page tables: stacks in vmalloc, a device's registers; with radix, all else too.

Where Linux since 5.2 has them: create_physical_mapping(), __vmalloc(), ioremap() and
vmemmap_populate() in arch/powerpc/mm, and the starts of regions in asm/book3s/64/{hash,radix}*.h.
"""

from __future__ import annotations

from collections.abc import Sequence

from phypan.formats._records import ByteOrder
from phypan.platform.page_tables import PAGE_OFFSET, LinuxTables, Mmu, Page, Ram, Release
from phypan.platform.vmemmap import Piece

_REGISTERS = 0x200 << 32  # physical address of a device: PCI memory, as QEMU has it
_FOLDER = 0x750000  # tables below the top one lie from here on
_HUGE, _LARGE = 30, 21  # shifts of the linear map's pages
_STACKS = 24
_AREA, _AREA_LIST = 64, 40  # bytes of struct vmap_area; offset of its list
VARIABLES = 16 + _STACKS * _AREA


def regions(mmu: Mmu, page_shift: int) -> tuple[int, int, int]:
    """Effective addresses at which vmalloc, IO and vmemmap begin."""
    if mmu == "hash" and page_shift == 12:
        return 0xC0003D << 40, 0xC0003E << 40, 0xC0003F << 40
    return 0xC008 << 48, 0xC00A << 48, 0xC00C << 48


def write(
    ram: Ram, root: int, *, mmu: Mmu, page_shift: int, release: Release, order: ByteOrder,
    size: int, pieces: Sequence[Piece],
) -> None:  # fmt: skip
    """Write the tables of a kernel in `size` bytes of memory; the top one is at `root`.

    pieces  of vmemmap, which with a hashed page table is in no other
    """
    places = _Places(root)
    tables = LinuxTables(
        ram, places.allocate, mmu=mmu, page_shift=page_shift, release=release, order=order
    )
    if mmu == "radix":
        _map_linearly(tables, size)
        for piece in pieces:
            tables.map(piece.effective, piece.physical, Page(piece.shift))
    vmalloc, io, _ = regions(mmu, page_shift)
    for number in range(_STACKS):
        place = (root >> page_shift) + number << page_shift
        at = 3 * number << page_shift  # with a guard page before and behind
        tables.map(vmalloc + at, place, Page(page_shift))
        tables.map(io + at, _REGISTERS + at, Page(page_shift, uncached=True))


def write_areas(ram: Ram, at: int, *, mmu: Mmu, page_shift: int, order: ByteOrder) -> str:
    """vmap_area_list, VARIABLES bytes from physical `at` on; VMCOREINFO's lines. 3.10 to 6.8."""
    start = regions(mmu, page_shift)[0]
    links = [PAGE_OFFSET + at, *(PAGE_OFFSET + at + 16 + n * _AREA + _AREA_LIST
                                 for n in range(_STACKS))]  # fmt: skip
    for number, link in enumerate(links):
        following, before = links[(number + 1) % len(links)], links[number - 1]
        ram.write(link - PAGE_OFFSET, following.to_bytes(8, order) + before.to_bytes(8, order))
        if number:
            first = start + (3 * (number - 1) << page_shift)
            ends = first.to_bytes(8, order) + (first + (1 << page_shift)).to_bytes(8, order)
            ram.write(link - PAGE_OFFSET - _AREA_LIST, ends)
    return (
        f"SYMBOL(vmap_area_list)={links[0]:x}\nOFFSET(vmap_area.va_start)=0\n"
        f"OFFSET(vmap_area.list)={_AREA_LIST}\n"
    )


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
