"""What each page of the dump is used for, by struct page and VMCOREINFO: makedumpfile's types."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from phypan.dump import Dump
from phypan.errors import PhypanError, Problem
from phypan.filtering import memmap, struct_page, zones
from phypan.filtering.memmap import MapPart
from phypan.filtering.struct_page import StructPage
from phypan.formats._records import ByteOrder
from phypan.kernels import modes
from phypan.kernels import struct_page as s
from phypan.pages import bits

_AT_ONCE = 4096  # struct pages that are looked at together
_LARGEST_RUN = 1 << 18  # pages: a 16G page of hugetlb in 64K pages, which no other is larger than


@dataclass(frozen=True)
class PageType:
    """A use of pages.

    name   in a word or two
    level  which bits of a dump level leave such pages out; 0 for none
    always whether they are left out at every level: there is nothing of use in them
    """

    name: str
    level: int
    always: bool = False


TYPES = {
    s.OTHER: PageType("kernel", 0),
    s.CACHE: PageType("cache", 2 | 4),
    s.CACHE_PRIVATE: PageType("private cache", 4),
    s.USER: PageType("user", 8),
    s.FREE: PageType("free", 16),
    s.SLAB: PageType("slab", 0),
    s.HUGETLB: PageType("hugetlb", 8),
    s.OFFLINE: PageType("offline", 0, always=True),
    s.POISONED: PageType("poisoned", 0, always=True),
}
UNKNOWN = 0x7F  # of pages without a struct page that can be read
UNKNOWN_TYPE = PageType("unknown", 0)
MAX_LEVEL = 31


def page_type(code: int) -> PageType:
    """The type behind a code: of a poisoned page that it is poisoned, whatever else it is."""
    if code == UNKNOWN:
        return UNKNOWN_TYPE
    return TYPES[s.POISONED if code & s.POISONED else code]


def left_out(code: int, level: int) -> bool:
    """Whether pages of a type are left out at a dump level."""
    kind = page_type(code)
    return kind.always or bool(kind.level & level)


class PageTypes:
    """The types of all pages of a dump.

    problems  what cannot be told apart, and what cannot be read
    """

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self.problems: list[Problem] = []
        self._page = struct_page.read(dump.vmcoreinfo, dump.byte_order) if dump.vmcoreinfo else None
        self._parts: list[MapPart] = []
        if self._page is None:
            what, meaning = "struct page is not described", "what pages are used for is unknown"
            self.problems.append(Problem(what, "VMCOREINFO", meaning))
            return
        self.problems += self._page.problems
        try:
            self._parts = list(memmap.parts(dump, self._page.size, self.problems))
        except PhypanError as error:
            meaning = "what pages are used for is unknown"
            self.problems.append(Problem(str(error), "map of struct pages", meaning))
        self._free = self._free_frames() if self._page.free_lists else None

    @property
    def known(self) -> bool:
        """Whether the type of any page can be told."""
        return bool(self._parts)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        """(page frame number of the first, codes, one byte for each page), in ascending order.

        The codes are gone with the next ones. Page frames between have no struct page.
        """
        return self.between(0, 1 << 62)

    def between(self, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """The same for page frames from `first` to `last`, and some before and behind them."""
        if self._page is None:
            return
        scan = _Scan(self._dump, self._page)
        first -= first % _LARGEST_RUN
        for part in self._parts:
            if part.pfn + part.count > first and part.pfn < last:
                yield from self._part(scan, part, max(0, first - part.pfn), last)
        self.problems += scan.problems()

    def _part(self, scan: _Scan, part: MapPart, skip: int, last: int) -> Iterator[tuple[int, Any]]:
        scan.begin()
        for index in range(skip, min(part.count, last - part.pfn), _AT_ONCE):
            count = min(_AT_ONCE, part.count - index)
            codes = scan.types(part, index, count)
            if self._free is not None:
                _mark_free(codes, self._free, part.pfn + index, count)
            yield part.pfn + index, codes

    def __getitem__(self, pfn: int) -> int:
        """The code of one page."""
        for first, codes in self.between(pfn, pfn + 1):
            if first <= pfn < first + len(codes):
                return int(codes[pfn - first])
        return UNKNOWN

    def struct_page(self, pfn: int) -> tuple[int, bytes] | None:
        """(effective address, bytes) of a page's struct page; None where there is none."""
        if self._page is None:
            return None
        for part in self._parts:
            if part.pfn <= pfn < part.pfn + part.count:
                address = part.address + (pfn - part.pfn) * self._page.size
                try:
                    return address, self._dump.spaces["kernel"].read(address, self._page.size)
                except PhypanError:
                    return None
        return None

    def _free_frames(self) -> bytearray:
        """A bit for each free page, out of the free lists."""
        frames = -(-self._dump.memory.end // self._dump.page_size)
        free = bytearray(-(-frames // 8))
        size = self._page.size if self._page else 0
        places = sorted((part.address, part.pfn, part.count) for part in self._parts)
        addresses = [address for address, _, _ in places]
        for address, order in zones.free_blocks(self._dump, self.problems):
            at = bisect_right(addresses, address) - 1
            start, pfn, count = places[at] if at >= 0 else (0, 0, 0)
            index, rest = divmod(address - start, size)
            if rest == 0 and index < count:
                first = pfn + index
                last = min(first + (1 << order), frames)
                bits.set_run(free, first, max(0, last - first))
        return free


def _mark_free(codes: Any, free: bytearray, first: int, count: int) -> None:
    for start, length, is_free in bits.runs(free, first, first + count):
        if is_free:
            for index in range(start - first, start - first + length):
                codes[index] = s.FREE


class _Scan:
    """Reads struct pages and asks the kernel of kernels.struct_page, in one of the three modes."""

    def __init__(self, dump: Dump, page: StructPage) -> None:
        self._read, self._order = dump.spaces["kernel"].read, dump.byte_order
        self._page, self._how = page, modes.mode()
        self._classify = _function(self._how)
        self._state: Any = None
        self._unreadable = 0
        self._why = ""

    def begin(self) -> None:
        """Forget what goes on from the pages before."""
        self._state = _integers(2, self._how)

    def types(self, part: MapPart, index: int, count: int) -> Any:
        """The codes of `count` pages of a part from `index` on."""
        size = self._page.size
        types: Any = bytearray(count)
        try:
            data = self._read(part.address + index * size, count * size)
        except PhypanError as error:
            if count > 1:  # a page of the map that is missing takes only its own with it
                half = (count + 1) // 2 // 2 * 2 or 1
                first = self.types(part, index, half)
                return first + self.types(part, index + half, count - half)
            self._unreadable, self._why = self._unreadable + count, str(error)
            self.begin()
            types[:] = bytes([UNKNOWN]) * count
            return types
        words = _words(data, self._order, self._how)
        out: Any = types
        if self._how != "plain":
            import numpy as np

            out = np.frombuffer(types, np.uint8)
        pfn = part.pfn + index
        self._classify(words, count, pfn, self._page.facts, self._state, out)
        return types

    def problems(self) -> Iterator[Problem]:
        """What could not be read."""
        if self._unreadable:
            what = f"the struct pages of {self._unreadable} pages cannot be read: {self._why}"
            yield Problem(what, "map of struct pages", "those pages stay in the dump")


def _function(how: modes.Mode) -> Any:
    if how == "numba":
        from phypan.kernels import compiled

        return compiled.classify
    if how == "numpy":
        from phypan.kernels.twins import struct_page

        return struct_page.classify
    return s.classify


def _integers(count: int, how: modes.Mode) -> Any:
    if how == "plain":
        return array("q", bytes(8 * count))
    import numpy as np

    return np.zeros(count, np.int64)


def _words(data: bytes, order: ByteOrder, how: modes.Mode) -> Any:
    """64-bit words in this host's byte order."""
    if how == "plain":
        words = array("q", data)
        if order != sys.byteorder:
            words.byteswap()
        return words
    import numpy as np

    return np.frombuffer(data, ">i8" if order == "big" else "<i8").astype(np.int64)
