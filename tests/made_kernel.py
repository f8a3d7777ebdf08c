"""Struct pages of kernels of several eras, made field by field, and the VMCOREINFO to find them.

Offsets and numbers are those of kernels for ppc64 as their VMCOREINFO tells them (mm_types.h,
page-flags.h of 2.6.26, 3.17, 5.10, 6.6, 6.12).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from phypan import BytesStore, Dump, Extent, Memory, TranslationFault
from phypan.formats.vmcoreinfo import Vmcoreinfo

LINEAR, VMEMMAP = 0xC000000000000000, 0xC00C000000000000
# Flags that all eras have, in bits of their own
LRU, PRIVATE, SWAPCACHE, SWAPBACKED, SLAB, HEAD, HWPOISON = (
    1 << n for n in (5, 11, 15, 17, 7, 14, 21)
)
ANON = 0xC000000001234501  # a mapping: of an anonymous page, of a file
FILE = 0xC000000001234500


@dataclass(frozen=True)
class Era:
    """How the struct page of some kernels looks."""

    name: str
    size: int
    fields: Mapping[str, tuple[int, int]]  # name -> offset, bytes
    info: str
    types: Mapping[str, int] = field(default_factory=dict)  # _mapcount of a kind of pages
    page_size: int = 65536


_OLD = {"flags": (0, 8), "_count": (8, 4), "_mapcount": (12, 4), "private": (16, 8),
        "mapping": (24, 8), "next": (40, 8), "prev": (48, 8)}  # fmt: skip
_NEW = {"flags": (0, 8), "compound_head": (8, 8), "next": (8, 8), "prev": (16, 8),
        "mapping": (24, 8), "private": (40, 8), "_mapcount": (48, 4),
        "_refcount": (52, 4)}  # fmt: skip
_BITS = "NUMBER(PG_lru)=5\nNUMBER(PG_private)=11\nNUMBER(PG_swapcache)=15\n"
_MORE_BITS = "NUMBER(PG_slab)=7\nNUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=21\n"
_HEAD_BIT = f"NUMBER(PG_head_mask)={HEAD}\n"


def _offsets(fields: Mapping[str, tuple[int, int]], *names: str) -> str:
    return "".join(f"OFFSET(page.{name})={fields[name][0]}\n" for name in names)


ERAS = {
    "2.6.26": Era("2.6.26", 56, _OLD, _BITS + _offsets(_OLD, "flags", "_count", "mapping")
                  + "OFFSET(page.lru)=40\nSIZE(free_area)=88\nOFFSET(zone.free_area)=64\n"
                  "LENGTH(free_area.free_list)=5\nOFFSET(free_area.free_list)=0\n"
                  "OFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8\n", {}, 4096),
    "3.17": Era("3.17", 64, _OLD, _BITS + _MORE_BITS + _HEAD_BIT
                + _offsets(_OLD, "flags", "_count", "mapping", "_mapcount", "private")
                + "OFFSET(page.lru)=40\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-128\n"
                "SYMBOL(free_huge_page)=c000000000234560\n"
                "OFFSET(list_head.next)=0\nOFFSET(list_head.prev)=8\n", {"free": -128}),
    "5.10": Era("5.10", 64, {**_NEW, "dtor": (16, 1), "order": (17, 1)}, _BITS + _MORE_BITS
                + _HEAD_BIT + _offsets(_NEW, "flags", "_refcount", "mapping", "_mapcount",
                                       "private", "compound_head")
                + "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n"
                "NUMBER(HUGETLB_PAGE_DTOR)=2\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
                "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n", {"free": -129, "offline": -257}),
    "6.6": Era("6.6", 56, {**_NEW, "order": (0, 8)}, _BITS + _MORE_BITS + _HEAD_BIT
               + _offsets(_NEW, "flags", "_refcount", "mapping", "_mapcount", "private",
                          "compound_head")
               + "NUMBER(PG_hugetlb)=8\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
               "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n", {"free": -129, "offline": -257}, 4096),
    "6.12": Era("6.12", 56, {**_NEW, "order": (0, 8)}, _BITS
                + "NUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=21\n" + _HEAD_BIT
                + _offsets(_NEW, "flags", "_refcount", "mapping", "_mapcount", "private",
                           "compound_head")
                + "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n"
                "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\n"
                "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n"
                "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\n",
                {"free": -268435456, "slab": -184549376, "hugetlb": -201326592,
                 "offline": -251658240}),
}  # fmt: skip


class _Space:
    """The linear map, and a vmemmap that begins at some physical address."""

    def __init__(self, memory: Memory, vmemmap: int) -> None:
        self.memory, self.vmemmap = memory, vmemmap

    def read(self, address: int, size: int) -> bytes:
        if VMEMMAP <= address < VMEMMAP + (1 << 40) and self.vmemmap >= 0:
            return self.memory.read(address - VMEMMAP + self.vmemmap, size)
        if LINEAR <= address < LINEAR + (1 << 44):
            return self.memory.read(address - LINEAR, size)
        raise TranslationFault(address, "nothing is mapped there")


class KernelDump(Dump):
    """A Dump that knows its address space without looking for it."""

    @property
    def spaces(self):  # type: ignore[override]
        return self._spaces


@dataclass
class MadeKernel:
    """A kernel's memory: struct pages, and what leads to them.

    frames  how many page frames there are; a multiple of those in a section
    model   sparse, extreme, flat, nodes
    """

    era: Era
    order: str = "big"
    frames: int = 1024
    model: str = "extreme"
    vmemmap: bool = True

    def __post_init__(self) -> None:
        self.mark = ">" if self.order == "big" else "<"
        self.shift = self.era.page_size.bit_length() - 1
        self.section = (1 << 24) >> self.shift
        self.frames = -(-self.frames // self.section) * self.section
        size = self.frames * self.era.page_size
        self.map_at = 0x100000
        self.data = bytearray(0x100000 + self.frames * self.era.size + 65536)
        assert len(self.data) < size
        self.info = f"OSRELEASE={self.era.name}\nPAGESIZE={self.era.page_size}\n"
        self.info += f"SIZE(page)={self.era.size}\n{self.era.info}SYMBOL(_stext)={LINEAR:x}\n"
        self.info += "LENGTH(zone.free_area)=9\n"
        for frame in range(self.frames):
            self.put(frame, _mapcount=-1)
        self._map()
        self._nodes()

    def word(self, at: int, value: int, size: int = 8) -> None:
        """An integer at a physical address."""
        value &= (1 << 8 * size) - 1
        self.data[at : at + size] = value.to_bytes(size, self.order)  # type: ignore[arg-type]

    def place(self, frame: int) -> int:
        """Physical address of a struct page."""
        return self.map_at + frame * self.era.size

    def address(self, frame: int) -> int:
        """Effective address of a struct page."""
        return (VMEMMAP if self.vmemmap else LINEAR + self.map_at) + frame * self.era.size

    def put(self, frame: int, **values: int) -> None:
        """Set fields of a struct page; those that the era does not have are left out."""
        for name, value in values.items():
            if name in self.era.fields:
                offset, size = self.era.fields[name]
                self.word(self.place(frame) + offset, value, size)

    def _map(self) -> None:
        base = self.address(0)
        if self.model in ("sparse", "extreme"):
            entry, count = 16, self.frames // self.section
            at = 0x2000
            self.info += f"SYMBOL(mem_section)={LINEAR + 0x1000:x}\nSIZE(mem_section)={entry}\n"
            self.info += "OFFSET(mem_section.section_mem_map)=0\nNUMBER(SECTION_SIZE_BITS)=24\n"
            if self.model == "extreme":
                self.word(0x1000, LINEAR + at)
                self.info += "LENGTH(mem_section)=16\n"
            else:
                at = 0x1000
                self.info += f"LENGTH(mem_section)={count + 10}\n"
            for number in range(count):
                self.word(at + number * entry, base | 3 | 4)  # present, has a map, is online
        elif self.model == "flat":
            self.info += f"SYMBOL(mem_map)={LINEAR + 0x1000:x}\n"
            self.word(0x1000, base)

    def _nodes(self) -> None:
        """One node with two zones, or two nodes of one zone each."""
        count = 2 if self.model == "nodes" else 1
        self.info += f"SYMBOL(node_data)={LINEAR + 0x3000:x}\nLENGTH(node_data)=16\n"
        self.info += "OFFSET(pglist_data.node_zones)=0\nOFFSET(pglist_data.nr_zones)=4000\n"
        self.info += "OFFSET(pglist_data.node_start_pfn)=4008\nSIZE(zone)=1024\n"
        self.info += "OFFSET(pglist_data.node_spanned_pages)=4016\nOFFSET(zone.spanned_pages)=16\n"
        if self.model == "nodes":
            self.info += "OFFSET(pglist_data.node_mem_map)=4024\n"
        share = self.frames // count
        for node in range(count):
            at = 0x4000 + 0x2000 * node
            self.word(0x3000 + 8 * node, LINEAR + at)
            self.word(at + 4000, 3, 4)
            self.word(at + 4008, node * share)
            self.word(at + 4016, share)
            self.word(at + 4024, self.address(node * share))
            spans = (share // 4, 0, share - share // 4) if count == 1 else (share, 0, 0)
            for zone, span in enumerate(spans):
                self.word(at + 1024 * zone + 16, span)
                for area in range(9):
                    for kind in range(5):
                        head = at + 1024 * zone + 64 + 88 * area + 16 * kind
                        self.word(head, LINEAR + head)
                        self.word(head + 8, LINEAR + head)

    def free(self, frame: int, order: int) -> None:
        """A free block: by its struct page, or in the list of its order where the era has lists."""
        if "free" in self.era.types:
            self.put(frame, _mapcount=self.era.types["free"], private=order)
            return
        head = LINEAR + 0x4000 + 64 + 88 * order
        lru = self.place(frame) + self.era.fields["next"][0]
        entry = self.address(frame) + self.era.fields["next"][0]
        first = struct.unpack_from(self.mark + "Q", self.data, head - LINEAR)[0]
        self.word(lru, first)
        self.word(lru + 8, head)
        self.word(head - LINEAR, entry)
        back = head - LINEAR if first == head else first - self.address(0) + self.map_at
        self.word(back + 8, entry)

    def compound(self, frame: int, order: int, *, hugetlb: bool = False, **values: int) -> None:
        """A compound page, with what its era puts into its second struct page."""
        flags = values.pop("flags", 0) | HEAD
        if hugetlb and "hugetlb" in self.era.types:
            values["_mapcount"] = self.era.types["hugetlb"]
        self.put(frame, flags=flags, **values)
        for tail in range(frame + 1, frame + (1 << order)):
            self.put(tail, compound_head=self.address(frame) | 1)
        if self.era.name in ("6.6", "6.12"):
            self.put(frame + 1, order=order | (256 if hugetlb and self.era.name == "6.6" else 0))
        elif self.era.name == "5.10":
            self.put(frame + 1, order=order, dtor=2 if hugetlb else 1)
        elif self.era.name == "3.17":
            self.put(frame + 1, prev=order, next=0xC000000000234560 if hugetlb else LINEAR + 0x500)

    def dump(self, *, missing: tuple[str, ...] = (), size: int = 0) -> KernelDump:
        """The Dump. Lines of VMCOREINFO that begin with one of `missing` are left out."""
        lines = self.info.splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(missing or "\0"))
        whole = self.frames * self.era.page_size
        rest = BytesStore(bytes(1))
        rest.view = lambda offset, size: memoryview(bytes(size))  # type: ignore[method-assign]
        memory = Memory([
            Extent(0, len(self.data), BytesStore(bytes(self.data)), 0),
            Extent(len(self.data), whole - len(self.data), rest, 0),
        ])  # fmt: skip
        made = KernelDump("made", memory, byte_order=self.order, page_size=self.era.page_size,
                          vmcoreinfo=Vmcoreinfo(text.encode()))  # type: ignore[arg-type] # fmt: skip
        made._spaces = {"kernel": _Space(memory, self.map_at if self.vmemmap else -1)}
        return made
