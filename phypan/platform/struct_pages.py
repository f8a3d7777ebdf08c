"""Struct pages of kernels of several eras: what each page is used for, as the kernel has it.

Offsets and numbers are those of kernels for ppc64 as their VMCOREINFO tells them (mm_types.h,
page-flags.h of 2.6.26, 3.17, 5.10, 6.6, 6.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from phypan.formats._records import ByteOrder

# Flags that all eras have, in bits of their own
LRU, PRIVATE, SWAPCACHE, SWAPBACKED, SLAB, HEAD, HWPOISON, RESERVED = (
    1 << n for n in (5, 11, 15, 17, 7, 14, 21, 10)
)
ANON = 0xC000000001234501  # a mapping: of an anonymous page, of a file
FILE = 0xC000000001234500
_FREE_HUGE_PAGE = 0xC000000000234560  # a function
_PUT_COMPOUND = 0xC000000000000500


@dataclass(frozen=True)
class Era:
    """How the struct page of some kernels looks.

    fields  name -> (offset, bytes)
    info    what VMCOREINFO tells of it
    types   the _mapcount of some kinds of pages
    """

    name: str
    size: int
    fields: Mapping[str, tuple[int, int]]
    info: str
    types: Mapping[str, int] = field(default_factory=dict)


_OLD = {"flags": (0, 8), "_count": (8, 4), "_mapcount": (12, 4), "private": (16, 8),
        "mapping": (24, 8), "next": (40, 8), "prev": (48, 8)}  # fmt: skip
_NEW = {"flags": (0, 8), "compound_head": (8, 8), "next": (8, 8), "prev": (16, 8),
        "mapping": (24, 8), "private": (40, 8), "_mapcount": (48, 4),
        "_refcount": (52, 4)}  # fmt: skip
_BITS = "NUMBER(PG_lru)=5\nNUMBER(PG_private)=11\nNUMBER(PG_swapcache)=15\n"
_MORE_BITS = "NUMBER(PG_slab)=7\nNUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=21\n"
_HEAD_BIT = f"NUMBER(PG_head_mask)={HEAD}\n"


def _offsets(fields: Mapping[str, tuple[int, int]], *names: str) -> str:
    told = "".join(f"OFFSET(page.{name})={fields[name][0]}\n" for name in names)
    return told + f"OFFSET(page.lru)={fields['next'][0]}\n"


_SINCE_5_10 = _offsets(
    _NEW, "flags", "_refcount", "mapping", "_mapcount", "private", "compound_head"
)
ERAS = {
    "2.6.26": Era("2.6.26", 56, _OLD, _BITS + _offsets(_OLD, "flags", "_count", "mapping")),
    "3.17": Era("3.17", 64, _OLD, _BITS + _MORE_BITS + _HEAD_BIT
                + _offsets(_OLD, "flags", "_count", "mapping", "_mapcount", "private")
                + "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-128\n"
                f"SYMBOL(free_huge_page)={_FREE_HUGE_PAGE:x}\n", {"free": -128}),
    "5.10": Era("5.10", 64, {**_NEW, "dtor": (16, 1), "order": (17, 1)}, _BITS + _MORE_BITS
                + _HEAD_BIT + _SINCE_5_10
                + "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\n"
                "NUMBER(HUGETLB_PAGE_DTOR)=2\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
                "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n", {"free": -129, "offline": -257}),
    "6.6": Era("6.6", 56, {**_NEW, "order": (0, 8)}, _BITS + _MORE_BITS + _HEAD_BIT + _SINCE_5_10
               + "NUMBER(PG_hugetlb)=8\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\n"
               "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n", {"free": -129, "offline": -257}),
    "6.12": Era("6.12", 64, {**_NEW, "order": (0, 8)}, _BITS
                + "NUMBER(PG_swapbacked)=17\nNUMBER(PG_hwpoison)=21\n" + _HEAD_BIT + _SINCE_5_10
                + "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\n"
                "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\n"
                "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n"
                "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\n",
                {"free": -268435456, "slab": -184549376, "hugetlb": -201326592,
                 "offline": -251658240}),
}  # fmt: skip


class StructPages:
    """An array of struct pages, as bytes: at first of pages that nobody has.

    data     of `count` struct pages, from page frame 0 on
    address  effective address of the first
    """

    def __init__(self, era: Era, order: ByteOrder, count: int, address: int) -> None:
        self.era, self.order, self.count, self.address = era, order, count, address
        self.data = self._encoded({"_mapcount": -1}) * count

    @property
    def vmcoreinfo(self) -> str:
        """What VMCOREINFO tells of struct page."""
        return f"SIZE(page)={self.era.size}\n{self.era.info}"

    def address_of(self, frame: int, name: str | None = None) -> int:
        """Effective address of a struct page, or of a field of it."""
        return self.address + frame * self.era.size + (self.era.fields[name][0] if name else 0)

    def put(self, frame: int, **values: int) -> None:
        """Set fields of a struct page; those that the era does not have are left out."""
        at = frame * self.era.size
        for name, value in values.items():
            if name in self.era.fields:
                offset, size = self.era.fields[name]
                self.data[at + offset : at + offset + size] = self._integer(value, size)

    def fill(self, first: int, count: int, **values: int) -> None:
        """The same fields for `count` pages; what was in others is gone."""
        size = self.era.size
        self.data[first * size : (first + count) * size] = (
            self._encoded({"_mapcount": -1, **values}) * count
        )

    def free(self, frame: int, order: int) -> None:
        """Make the block of 1 << `order` pages a free one, where struct page tells that."""
        if "free" in self.era.types:
            self.put(frame, _mapcount=self.era.types["free"], private=order)

    def compound(self, frame: int, order: int, *, hugetlb: bool = False, **values: int) -> None:
        """A compound page, with what its era puts into its second struct page."""
        flags = values.pop("flags", 0) | HEAD
        if hugetlb and "hugetlb" in self.era.types:
            values["_mapcount"] = self.era.types["hugetlb"]
        self.put(frame, flags=flags, **values)
        head = self.address_of(frame) | 1
        self.fill(frame + 1, (1 << order) - 1, compound_head=head)
        if self.era.name in ("6.6", "6.12"):
            of_hugetlb = 256 if hugetlb and self.era.name == "6.6" else 0
            self.put(frame + 1, order=order | of_hugetlb)
        elif self.era.name == "5.10":
            self.put(frame + 1, order=order, dtor=2 if hugetlb else 1)
        elif self.era.name == "3.17":
            self.put(frame + 1, prev=order, next=_FREE_HUGE_PAGE if hugetlb else _PUT_COMPOUND)

    def _integer(self, value: int, size: int) -> bytes:
        return (value & (1 << 8 * size) - 1).to_bytes(size, self.order)

    def _encoded(self, values: Mapping[str, int]) -> bytearray:
        page = bytearray(self.era.size)
        for name, value in values.items():
            if name in self.era.fields:
                offset, size = self.era.fields[name]
                page[offset : offset + size] = self._integer(value, size)
        return page
