"""Bulk: many stored pages at once, by their descriptors in one table.

Of small pages a call from Python for each costs more than its checksum. What cannot be told of many
at once (views of this store are copies, no numba or numpy is here, a checksum is missing or wrong)
is told of each by KdumpSet, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from phypan.errors import NotInDump
from phypan.formats import kdump_descriptors
from phypan.formats.kdump import DESCRIPTOR_SIZE, RAW
from phypan.formats.kdump_descriptors import CHECKED, CHECKED_ZERO, dtype
from phypan.kernels import modes
from phypan.pages import zlib_codec

if TYPE_CHECKING:
    from phypan.pages.kdump_set import KdumpPart, KdumpSet


_STEP = 1 << 16  # descriptors that are looked at together


class Kept(NamedTuple):
    """Pages as they are stored, each certain to be right: as packing.Packed has them."""

    sizes: Any
    flags: Any
    checksums: Any
    data: list[memoryview]


class Bulk:
    """The pages of a KdumpSet. Several threads may ask at once."""

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
        found = self._found(first, last) if self._crc else None
        if found is None:
            return range(first, last)
        part, table = found
        return (first + int(index) for index in self._unsure(part, first, table))

    def kept(self, first: int, last: int) -> Kept | None:
        """The stored pages of these page frames; None if not all of them are certain."""
        found = self._found(first, last) if self._crc else None
        if found is None:
            return None
        part, table = found
        if len(self._unsure(part, first, table)):
            return None
        zeros = table["page_flags"] >> 32 == CHECKED_ZERO
        sizes = table["size"].astype("i8")
        sizes[zeros] = 0
        sums = (table["page_flags"] & 0xFFFFFFFF).astype("i8")
        stored = table[~zeros]
        return Kept(sizes, table["flags"].astype("u1"), sums, self._stretches(part, stored))

    def _stretches(self, part: KdumpPart, stored: Any) -> list[memoryview]:
        """The bytes that descriptors lead to: in one piece what lies one behind the other."""
        if not len(stored):
            return []
        starts = stored["offset"].astype("i8")
        ends = starts + stored["size"]
        gaps = (starts[1:] != ends[:-1]).nonzero()[0]
        lows = [starts[0], *starts[gaps + 1]]
        highs = [*ends[gaps], ends[-1]]
        return [
            part.store.view(int(low), int(high - low))
            for low, high in zip(lows, highs, strict=True)
        ]

    def zeros(self, first: int, last: int) -> bytes | None:
        """1 for each of these page frames that is known to hold zeros, else 0."""
        found = self._found(first, last) if modes.mode() != "plain" else None
        if found is None:
            return None
        part, table = found
        marks = table["page_flags"] >> 32
        known = marks == CHECKED_ZERO
        if zeros_at := self._pages.zero_page(part):
            plain = (marks != CHECKED) & (table["flags"] == RAW)
            known |= plain & (table["offset"] == zeros_at)
        return bytes(known.view("u1"))

    def _found(self, first: int, last: int) -> tuple[KdumpPart, Any] | None:
        """The file that stores all of these page frames, and their descriptors, an array.

        None if there is no such file, if a view of it is a copy, or if it ends before them.
        """
        import numpy as np

        part = self._pages.part(first)
        if part is None or last > part.last or not getattr(part.store, "resident", False):
            return None
        at = part.head.descriptors_at + (self._pages.rank[first] - part.rank) * DESCRIPTOR_SIZE
        size = (last - first) * DESCRIPTOR_SIZE
        if at + size > part.store.size:
            return None
        return part, np.frombuffer(part.store.view(at, size), dtype(part.head.order))

    def _unsure(self, part: KdumpPart, first: int, table: Any) -> Any:
        """The indices of descriptors whose pages may be damaged."""
        import numpy as np

        from phypan.kernels import sums

        columns = [table[name].astype(np.int64) for name in ("offset", "size", "flags")]
        marks = table["page_flags"].astype(np.uint64)
        zeros_at = self._zeros_of(part, first, columns[0], marks)
        end, size = part.store.size, part.head.block_size
        file = np.frombuffer(part.store.view(0, end), np.uint8)
        out = np.empty(len(table), np.int64)
        count = sums.unsure(
            self._crc, _crc_of_zeros(size), zeros_at, file.ctypes.data, end, size, first,
            *columns, marks, np.empty(16, np.uint8), out,
        )  # fmt: skip
        return out[:count]

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


def faults(part: KdumpPart, total: int) -> Iterator[tuple[int, int, bool]]:
    """(first, how many, whether their offset is 0) of the `total` descriptors with a fault."""
    run: tuple[int, int, bool] | None = None
    for at, more, zero in _each_fault(part, total):  # most, in a file that was not finished
        if run is not None and (at, zero) == (run[0] + run[1], run[2]):
            run = (run[0], run[1] + more, zero)
            continue
        if run is not None:
            yield run
        run = (at, more, zero)
    if run is not None:
        yield run


def _each_fault(part: KdumpPart, total: int) -> Iterator[tuple[int, int, bool]]:
    start, size = part.head.descriptors_at, part.store.size
    whole = max(0, min(total, (size - start) // DESCRIPTOR_SIZE))
    for first in range(0, whole, _STEP):
        count = min(_STEP, whole - first)
        at = start + first * DESCRIPTOR_SIZE
        data = part.store.view(at, count * DESCRIPTOR_SIZE)
        for index, zero in kdump_descriptors.faulty(data, part.head, size):
            yield first + index, 1, zero
    if whole < total:
        yield whole, total - whole, False
