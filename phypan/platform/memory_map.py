"""The guest's account of its memory: what each page is used for, in struct pages, as in Linux.

Kernels with fadump have their struct pages in vmemmap. The older one has them in the linear map: it
tells nobody where a vmemmap would be.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from phypan.formats._records import ByteOrder
from phypan.platform import nodes, vmemmap
from phypan.platform.partition_memory import PartitionMemory
from phypan.platform.reservation import PAGE_OFFSET, Kernel
from phypan.platform.room import Room, Use
from phypan.platform.struct_pages import (
    ANON,
    ERAS,
    FILE,
    HWPOISON,
    LRU,
    PRIVATE,
    RESERVED,
    SLAB,
    SWAPBACKED,
    Era,
    StructPages,
)
from phypan.platform.vmemmap import Piece

MOST_PAGES = 1 << 20  # memory above so many is there, but nobody took it into use
_NODE_TABLE, _NODE = 0x1000, 0x2000  # places of variables, behind those of vmemmap
VARIABLES = _NODE + nodes.SIZE
_PRESENT, _HAS_MAP, _ONLINE = 1, 2, 4  # low bits of section_mem_map
_KINDS = ("user", "cache", "free", "private cache", "slab", "kernel")
_HUGE = {(False, 16): 8, (False, 12): 12, (True, 16): 5, (True, 12): 9}  # (radix, shift) -> order


@dataclass(frozen=True)
class Kept:
    """What memory is for, before there is a map of it; physical addresses, (start, size).

    kernel     the kernel's own
    contents   what was written to, by anybody
    variables  where the variables of the map go, VARIABLES bytes of the kernel's own
    """

    kernel: Sequence[tuple[int, int]]
    contents: Sequence[tuple[int, int]]
    variables: int


class MemoryMap:
    """The map, in the memory of a guest.

    frames      page frames that it is of, from 0 on
    uses        of all pages but the free ones
    pieces      of vmemmap; none where struct pages are in the linear map
    vmcoreinfo  the lines of VMCOREINFO that lead to all this
    """

    def __init__(
        self,
        memory: PartitionMemory,
        kept: Kept,
        *,
        kernel: Kernel,
        order: ByteOrder,
        page_size: int,
        radix: bool,
        start: int,
        seed: int,
    ) -> None:
        self._memory, self._kept, self._order, self._radix = memory, kept, order, radix
        self._numbers = random.Random(seed)
        self.frames = min(memory.size // page_size, MOST_PAGES)
        self._room = Room(memory, page_size, self.frames)
        for place, size in kept.kernel:
            self._room.hold(place, size, "kernel")
        self._mapped = kernel.mechanism == "fadump"
        self.pieces: tuple[Piece, ...] = ()
        self._pages, lines = self._place(_era(kernel), start)
        orders = 9 if page_size == 65536 else 13  # MAX_ORDER
        self._nodes = nodes.Nodes(
            memory.write, [nodes.Node(0, (self.frames,))], orders=orders, order=order,
            table=kept.variables + _NODE_TABLE, start=kept.variables + _NODE,
        )  # fmt: skip
        self._use_contents()
        self._use_more()
        self._write_uses()
        self._free_rest(orders)
        self._write_pages()
        self.vmcoreinfo = lines + self._pages.vmcoreinfo + self._nodes.vmcoreinfo

    @property
    def uses(self) -> Sequence[Use]:
        """What pages are used for; free ones are not named."""
        return self._room.uses

    def _place(self, era: Era, start: int) -> tuple[StructPages, str]:
        """Struct pages of all sections, and VMCOREINFO's lines about the way to them."""
        room, order = self._room, self._order
        in_section = (1 << vmemmap.SECTION_BITS) // room.page_size
        sections = -(-room.frames // in_section)
        count, flags = sections * in_section, _PRESENT | _HAS_MAP
        if not self._mapped:
            start = PAGE_OFFSET + room.take(count * era.size)
            pages = StructPages(era, order, count, start)
            return pages, vmemmap.write_sections(room, start, sections, 44, flags, order)
        pages = StructPages(era, order, count, start)
        found = vmemmap.pieces(room, start, len(pages.data), radix=self._radix)
        self.pieces = tuple(found)
        lines = vmemmap.write_sections(room, start, sections, 51, flags | _ONLINE, order)
        lines += f"NUMBER(SECTION_SIZE_BITS)={vmemmap.SECTION_BITS}\nNUMBER(MAX_PHYSMEM_BITS)=51\n"
        listed = not self._radix or era is not ERAS["6.12"]
        lines += vmemmap.write_list(
            room, self.pieces, self._kept.variables, listed=listed, order=order
        )
        return pages, lines

    # -- what pages are used for ------------------------------------------------------------------

    def _use_contents(self) -> None:
        """Of pages that were written to, some for this and some for that; some are free again."""
        number = 0
        for start, size in self._kept.contents:
            for first, last in self._room.free(start, start + size):
                kind = _KINDS[number % len(_KINDS)]
                number += 1
                if kind != "free":
                    pages = self._room.page_size
                    self._room.hold(first * pages, (last - first) * pages, kind)

    def _use_more(self) -> None:
        """Huge pages, and pages of which nothing good is left, where memory is large enough."""
        if not self._mapped:
            return
        huge = _HUGE[self._radix, self._room.page_size.bit_length() - 1]
        more = (("user", huge), ("hugetlb", huge), ("cache", 2), ("poisoned", 0), ("offline", 0))
        for kind, order in more:
            size = self._room.page_size << order
            place = self._room.find(size, size)
            if place is not None and size <= self._memory.size // 16:
                self._memory.write(place, self._numbers.randbytes(min(size, 8192)))
                self._room.hold(place, size, kind, order)

    def _write_uses(self) -> None:
        """Struct pages as mm/ leaves them."""
        pages, types = self._pages, self._pages.era.types
        fields = {
            "kernel": {"flags": RESERVED},
            "user": {"flags": LRU | SWAPBACKED, "mapping": ANON, "_mapcount": 0},
            "cache": {"flags": LRU, "mapping": FILE},
            "private cache": {"flags": LRU | PRIVATE, "mapping": FILE},
            "slab": {"_mapcount": types["slab"]} if "slab" in types else {"flags": SLAB},
            "poisoned": {"flags": HWPOISON},
            "offline": {"_mapcount": types.get("offline", -1)},
            "hugetlb": {},
        }
        behind = Use(self.frames, pages.count - self.frames, "kernel")
        for use in (*self.uses, behind):
            values = {"_refcount": 1, "_count": 1, **fields[use.kind]}
            pages.fill(use.first, use.count, **values)
            if use.order:
                pages.compound(use.first, use.order, hugetlb=use.kind == "hugetlb", **values)

    def _free_rest(self, orders: int) -> None:
        for first, last in self._room.free():
            frame = first
            while frame < last:
                aligned = (frame & -frame).bit_length() - 1 if frame else orders
                order = min(orders - 1, aligned, (last - frame).bit_length() - 1)
                self._nodes.free(self._pages, frame, order)
                frame += 1 << order

    def _write_pages(self) -> None:
        data = memoryview(self._pages.data)
        if not self._mapped:
            self._memory.write(self._pages.address - PAGE_OFFSET, bytes(data))
        for piece in self.pieces:
            skip = piece.effective - self._pages.address
            self._memory.write(piece.physical, bytes(data[skip : skip + (1 << piece.shift)]))


def _era(kernel: Kernel) -> Era:
    if kernel.mechanism == "phyp":
        return ERAS["2.6.26"]  # which 2.6.32 is like
    return ERAS["5.10" if kernel.header == 0 else "6.12"]
