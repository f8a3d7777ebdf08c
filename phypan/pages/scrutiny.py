"""Scrutiny: which of many stored pages have to be looked at one by one.

A page whose checksum is right is right; of small ones a call from Python for each costs more than
the checksum. Whatever is not surely right is told by KdumpSet.check, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from phypan.errors import NotInDump
from phypan.formats.kdump import DESCRIPTOR_SIZE
from phypan.formats.kdump_descriptors import CHECKED_ZERO, dtype
from phypan.kernels import modes
from phypan.pages import zlib_codec

if TYPE_CHECKING:
    from phypan.pages.kdump_set import KdumpPart, KdumpSet


class Scrutiny:
    """Looks at the pages of a KdumpSet, in as many threads as like."""

    def __init__(self, pages: KdumpSet) -> None:
        self._pages = pages
        self._zeros: dict[int, int] = {}  # first page frame of a part -> where its zeros are

    @cached_property
    def _crc(self) -> int:
        """The address of a C function, if numba is here to call it; else 0."""
        return zlib_codec.crc32_address() if modes.mode() == "numba" else 0

    def unsure(self, first: int, last: int) -> Iterable[int]:
        """Those of the page frames from `first` to `last`, excluded, that may be damaged.

        All of these must be stored.
        """
        part = self._pages.part(first)
        if not self._crc or part is None or last > part.last:
            return range(first, last)
        if not getattr(part.store, "resident", False):
            return range(first, last)  # its views are copies
        at = part.head.descriptors_at + (self._pages.rank[first] - part.rank) * DESCRIPTOR_SIZE
        size = (last - first) * DESCRIPTOR_SIZE
        if at + size > part.store.size:
            return range(first, last)
        return self._summed(part, first, part.store.view(at, size))

    def _summed(self, part: KdumpPart, first: int, descriptors: memoryview) -> list[int]:
        import numpy as np

        from phypan.kernels import sums

        table = np.frombuffer(descriptors, dtype(part.head.order))
        columns = [table[name].astype(np.int64) for name in ("offset", "size", "flags")]
        marks = table["page_flags"].astype(np.uint64)
        zeros_at = self._zeros_of(part, first, columns[0], marks)
        end, size = part.store.size, part.head.block_size
        file = part.store.view(0, end)
        out = np.empty(len(table), np.int64)
        count = sums.unsure(
            self._crc, _crc_of_zeros(size), zeros_at, np.frombuffer(file, np.uint8).ctypes.data,
            end, size, first, *columns, marks, np.empty(16, np.uint8), out,
        )  # fmt: skip
        return [first + int(index) for index in out[:count]]

    def _zeros_of(self, part: KdumpPart, first: int, offsets: Any, marks: Any) -> int:
        """File offset of the page of zeros that all zeros of a part share; 0 if none is known."""
        known = self._zeros.get(part.first, 0)
        if not known:
            marked = (marks >> 32 == CHECKED_ZERO).nonzero()[0]
            if len(marked):
                try:
                    self._pages.check(first + int(marked[0]))
                except NotInDump:
                    return 0
                known = self._zeros[part.first] = int(offsets[marked[0]])
        return known


@cache
def _crc_of_zeros(size: int) -> int:
    return zlib_codec.crc32()(bytes(size))
