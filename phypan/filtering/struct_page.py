"""struct page by VMCOREINFO: which words and bits of it say what a page is used for.

Linux kernel/vmcore_info.c (kernel/crash_core.c, kernel/kexec.c); makedumpfile's IMPLEMENTATION.
What a kernel does not tell is not guessed from its version: the types that need it are not told
apart, which leaves those pages in a dump, and a Problem says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan.errors import Problem
from phypan.formats._records import ByteOrder
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.kernels import struct_page as s

_WORD = 8
_TYPE_BYTE = 0xFF000000  # of page_type, since 6.12: the rest of it may hold a count
_LOW_BYTE = 0xFF  # of the second page's flags: the order, since 6.6


@dataclass(frozen=True)
class StructPage:
    """What kernels.struct_page needs to know.

    size        bytes of a struct page
    facts       as kernels.struct_page wants them
    free_lists  whether free pages must be looked for in the lists of the buddy allocator, because
                struct page alone does not tell them
    problems    what cannot be told apart, and why
    """

    size: int
    facts: tuple[int, ...]
    free_lists: bool = False
    problems: tuple[Problem, ...] = ()


class _Facts:
    """The facts while they are gathered."""

    def __init__(self, info: Vmcoreinfo, order: ByteOrder) -> None:
        self.info, self._big = info, order == "big"
        self.values = [0] * s.FACTS
        for place in (
            s.MAPCOUNT, s.MAPPING, s.PRIVATE, s.HEAD_POINTER, s.ORDER, s.DESTRUCTOR
        ):  # fmt: skip
            self.values[place] = -1

    def word(self, place: int, offset: int | None) -> bool:
        """Put down the word at a byte offset of struct page; whether there is one."""
        if offset is not None and offset >= 0 and offset % _WORD == 0:
            self.values[place] = offset // _WORD
            return True
        return False

    def part(self, place: int, offset: int | None, size: int) -> bool:
        """The same for `size` bytes inside of a word; the shift goes into the next place."""
        if offset is None or offset < 0 or offset % size:
            return False
        inside = offset % _WORD
        self.values[place] = offset // _WORD
        self.values[place + 1] = 8 * (_WORD - size - inside if self._big else inside)
        return True

    def bit(self, place: int, name: str) -> bool:
        """Put down the bit of the flags that NUMBER(name) is the number of."""
        number = self.info.number(name)
        if number is None or not 0 <= number < 63:
            return False
        self.values[place] = 1 << number
        return True

    def mapcount(self, place: int, name: str) -> bool:
        """Put down a value of _mapcount and, in the next place, its mask."""
        number = self.info.number(name)
        if number is None or self.values[s.MAPCOUNT] < 0:
            return False
        value = number & 0xFFFFFFFF
        whole = value & ~_TYPE_BYTE != 0
        self.values[place], self.values[place + 1] = value, 0xFFFFFFFF if whole else _TYPE_BYTE
        return True


def read(info: Vmcoreinfo, order: ByteOrder) -> StructPage | None:
    """What VMCOREINFO tells of struct page; None if not even its size and flags."""
    size, flags = info.size("page"), info.offset("page.flags")
    facts = _Facts(info, order)
    if size is None or size % _WORD or not 16 <= size <= 4096 or not facts.word(s.FLAGS, flags):
        return None
    facts.values[s.STRIDE] = size // _WORD
    facts.part(s.MAPCOUNT, info.offset("page._mapcount"), 4)
    facts.word(s.MAPPING, info.offset("page.mapping"))
    facts.word(s.PRIVATE, info.offset("page.private"))
    facts.word(s.HEAD_POINTER, info.offset("page.compound_head"))
    facts.mapcount(s.SLAB_VALUE, "PAGE_SLAB_MAPCOUNT_VALUE")
    facts.bit(s.SLAB_BIT, "PG_slab")
    facts.bit(s.HWPOISON, "PG_hwpoison")
    facts.mapcount(s.OFFLINE_VALUE, "PAGE_OFFLINE_MAPCOUNT_VALUE")
    problems = [*_cache(facts), *_user(facts), *_hugetlb(facts)]
    listed = not _free(facts)
    inside = all(value < facts.values[s.STRIDE] for value in _words(facts.values))
    return StructPage(size, tuple(facts.values), listed, tuple(problems)) if inside else None


def _words(values: list[int]) -> Iterator[int]:
    places = (s.FLAGS, s.MAPCOUNT, s.MAPPING, s.PRIVATE, s.HEAD_POINTER, s.ORDER, s.DESTRUCTOR)
    return (values[place] for place in places)


def _lost(what: str, missing: str) -> Problem:
    return Problem(f"{missing} missing", "VMCOREINFO", f"{what} pages cannot be told from others")


def _cache(facts: _Facts) -> Iterator[Problem]:
    facts.bit(s.SWAPBACKED, "PG_swapbacked")
    facts.values[s.NEEDS_SWAPBACKED] = int(facts.values[s.SWAPBACKED] != 0)
    if not facts.bit(s.PRIVATE_BIT, "PG_private"):
        yield _lost("private cache", "PG_private")
        return  # none of them is left out then: a file system's own would be among them
    if facts.values[s.MAPPING] < 0:
        yield _lost("cache", "page.mapping")  # anonymous pages are on the same lists
    elif not facts.bit(s.LRU, "PG_lru"):
        yield _lost("cache", "PG_lru")
    else:
        facts.bit(s.SWAPCACHE, "PG_swapcache")


def _user(facts: _Facts) -> Iterator[Problem]:
    if facts.values[s.MAPPING] < 0:
        yield _lost("user", "page.mapping")


def _free(facts: _Facts) -> bool:
    """Whether struct page itself tells free pages."""
    orders = facts.info.length("zone.free_area")
    facts.values[s.MAX_ORDER] = orders if orders is not None and 0 < orders < 30 else 0
    if facts.values[s.PRIVATE] < 0 or not facts.values[s.MAX_ORDER]:
        return False
    facts.mapcount(s.UNACCEPTED, "PAGE_UNACCEPTED_MAPCOUNT_VALUE")
    by_count = facts.mapcount(s.BUDDY, "PAGE_BUDDY_MAPCOUNT_VALUE")
    return by_count or facts.bit(s.BUDDY_BIT, "PG_buddy")


def _hugetlb(facts: _Facts) -> Iterator[Problem]:
    """How a compound page tells its size, and that it is of hugetlb; era after era."""
    info = facts.info
    if not _head_bit(facts):
        yield _lost("hugetlb and the tails of compound", "PG_head_mask")
        return
    values = facts.values
    by_type = facts.mapcount(s.HUGETLB_VALUE, "PAGE_HUGETLB_MAPCOUNT_VALUE")
    if by_type or facts.bit(s.HUGETLB_BIT, "PG_hugetlb"):
        # since 6.6: folio._flags_1, which is the second page's flags
        values[s.ORDER], values[s.ORDER_SHIFT], values[s.ORDER_MASK] = (
            values[s.FLAGS], 0, _LOW_BYTE,
        )  # fmt: skip
        return
    order, destructor = info.offset("page.compound_order"), info.offset("page.compound_dtor")
    if order is None:  # 6.3 to 6.5: folio._folio_order, which counts from the first page on
        order, destructor = (
            None if place is None else place - (info.size("page") or 0)
            for place in (info.offset("folio._folio_order"), info.offset("folio._folio_dtor"))
        )
    identity = info.number("HUGETLB_PAGE_DTOR")
    if order is not None and destructor is not None and identity is not None:
        size = abs(order - destructor)  # they are neighbours: two bytes each, later one
        if size in (1, 2) and facts.part(s.ORDER, order, size):
            values[s.ORDER_MASK] = (1 << 8 * size) - 1
            facts.part(s.DESTRUCTOR, destructor, size)
            values[s.DESTRUCTOR_MASK] = (1 << 8 * size) - 1
            values[s.DESTRUCTOR_HUGETLB] = identity
            return
    if _old_hugetlb(facts):
        return
    yield _lost("hugetlb and the tails of compound", "page.compound_order, page.compound_dtor")


def _head_bit(facts: _Facts) -> bool:
    mask = facts.info.number("PG_head_mask")
    if mask is None or mask <= 0 or mask >= 1 << 63:
        return False
    facts.values[s.HEAD] = mask
    return True


def _old_hugetlb(facts: _Facts) -> bool:
    """Before 4.4 the second page's lru.next is the destructor, lru.prev the order."""
    info = facts.info
    lru, free_huge_page = info.offset("page.lru"), info.symbol("free_huge_page")
    if lru is None or free_huge_page is None or info.offset("page.compound_head") is not None:
        return False
    following = info.offset("list_head.next") or 0
    before = info.offset("list_head.prev")
    if not facts.word(s.ORDER, lru + (_WORD if before is None else before)):
        return False
    facts.values[s.ORDER_MASK] = -1
    facts.word(s.DESTRUCTOR, lru + following)
    facts.values[s.DESTRUCTOR_MASK] = -1
    facts.values[s.DESTRUCTOR_HUGETLB] = free_huge_page - (1 << 64)
    return True
