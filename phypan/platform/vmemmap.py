"""The way to struct pages, written into the guest's memory: mem_section, vmemmap and its list.

Linux mm/sparse.c, arch/powerpc/mm/init_64.c, asm/mmu.h. No page table of a hashed kernel has
vmemmap: it is in vmemmap_list, which kernels with radix before 6.6 kept as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phypan.formats._records import ByteOrder
from phypan.platform.reservation import PAGE_OFFSET
from phypan.platform.room import Room

SECTION_BITS = 24  # log2 of a section's bytes
VARIABLES = 0x1000  # bytes that the variables here are given
_ENTRY = 16  # bytes of struct mem_section
_LIST_ENTRY = 24  # of struct vmemmap_backing
_PSIZE_DEF = 96  # of struct mmu_psize_def
_PSIZES = {12: 0, 16: 2, 21: 7, 24: 10}  # page shift -> MMU_PAGE_*
_LIST, _PSIZE, _DEFS = 0, 0x10, 0x40  # places of variables


@dataclass(frozen=True)
class Piece:
    """A page of vmemmap: 1 << `shift` bytes at an effective and a physical address."""

    effective: int
    physical: int
    shift: int


def pieces(room: Room, start: int, size: int, *, radix: bool) -> Iterator[Piece]:
    """`size` bytes from the effective address `start` on, in pages as large as Linux would take."""
    base = room.page_size.bit_length() - 1
    large = 21 if radix else 24 if room.memory.size >= 1 << 30 else base
    count = -(-size >> large)
    if room.find((count + 1) << large, 1 << large) is None:
        large, count = base, -(-size >> base)
    for number in range(count):
        place = room.take(1 << large, 1 << large)
        yield Piece(start + (number << large), place, large)


def write_sections(
    room: Room, address: int, count: int, physical_bits: int, flags: int, order: ByteOrder
) -> str:
    """mem_section: pointers to pages of struct mem_section (SPARSEMEM_EXTREME); VMCOREINFO's lines.

    address  effective address of the first struct page; all of them follow each other
    count    how many sections are there
    flags    low bits of section_mem_map
    """
    in_root = room.page_size // _ENTRY
    roots = (1 << physical_bits - SECTION_BITS) // in_root
    table = room.take(8 * roots)
    entry = (address | flags).to_bytes(8, order) + bytes(_ENTRY - 8)
    for root in range(-(-count // in_root)):
        place = room.take(room.page_size)
        room.memory.write(table + 8 * root, (PAGE_OFFSET + place).to_bytes(8, order))
        room.memory.write(place, entry * min(in_root, count - root * in_root))
    return (
        f"SYMBOL(mem_section)={PAGE_OFFSET + table:x}\nLENGTH(mem_section)={roots}\n"
        f"SIZE(mem_section)={_ENTRY}\nOFFSET(mem_section.section_mem_map)=0\n"
    )


def write_list(
    room: Room, found: Sequence[Piece], variables: int, *, listed: bool, order: ByteOrder
) -> str:
    """vmemmap_list, and what pages vmemmap is in; VMCOREINFO's lines.

    variables  physical address of VARIABLES bytes
    listed     False: the list is empty
    """
    for shift, index in _PSIZES.items():
        place = variables + _DEFS + index * _PSIZE_DEF
        room.memory.write(place, shift.to_bytes(4, order))
    room.memory.write(variables + _PSIZE, _PSIZES[found[0].shift].to_bytes(4, order))
    if listed:
        place = room.take(len(found) * _LIST_ENTRY)
        following, entries = 0, b""
        for number, piece in enumerate(found):
            values = (following, piece.physical, piece.effective)
            entries += b"".join(value.to_bytes(8, order) for value in values)
            following = PAGE_OFFSET + place + number * _LIST_ENTRY
        room.memory.write(place, entries)
        room.memory.write(variables + _LIST, following.to_bytes(8, order))
    at = PAGE_OFFSET + variables
    return (
        f"SYMBOL(vmemmap)={found[0].effective:x}\nSYMBOL(vmemmap_list)={at + _LIST:x}\n"
        f"SYMBOL(mmu_vmemmap_psize)={at + _PSIZE:x}\nSYMBOL(mmu_psize_defs)={at + _DEFS:x}\n"
        f"SIZE(vmemmap_backing)={_LIST_ENTRY}\nOFFSET(vmemmap_backing.list)=0\n"
        "OFFSET(vmemmap_backing.phys)=8\nOFFSET(vmemmap_backing.virt_addr)=16\n"
        f"SIZE(mmu_psize_def)={_PSIZE_DEF}\nOFFSET(mmu_psize_def.shift)=0\n"
    )
