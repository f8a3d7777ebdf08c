"""Memory: the crashed partition's physical memory, and why a part of it is not there.

Extents, sorted by physical address, lie over stores. Whatever no extent covers is a hole, and a
hole has a reason. It is never read as zeros.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from phypan.errors import BadRecord, NotInDump
from phypan.stores import Store


class PageState(Enum):
    """What a dump has of a page."""

    PRESENT = "present"
    ZERO = "zero"  # present, and known to hold zeros without being stored
    EXCLUDED = "excluded"  # left out on purpose when the dump was written
    ABSENT = "absent"  # never part of it
    DAMAGED = "damaged"  # was part of it, and cannot be read


@dataclass(frozen=True, slots=True)
class Extent:
    """Physical addresses from `start` on, `size` bytes, found in `store` at `offset`."""

    start: int
    size: int
    store: Store
    offset: int

    @property
    def end(self) -> int:
        """The first physical address behind it."""
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class Hole:
    """Physical addresses from `start` on, `size` bytes, that cannot be read, and why."""

    start: int
    size: int
    state: PageState = PageState.ABSENT
    why: str = "no part of the dump covers it"

    @property
    def end(self) -> int:
        """The first physical address behind it."""
        return self.start + self.size


Piece = Extent | Hole
EVERYWHERE = 1 << 64


class Memory:
    """Physical memory, read by address.

    extents  must not overlap; need not be sorted
    holes    reasons for what no extent covers; where one overlaps an extent, the extent counts
    """

    def __init__(self, extents: Iterable[Extent], holes: Iterable[Hole] = ()) -> None:
        self.extents: Sequence[Extent] = sorted(
            (extent for extent in extents if extent.size), key=lambda extent: extent.start
        )
        self._starts = [extent.start for extent in self.extents]
        for before, after in zip(self.extents, self.extents[1:], strict=False):
            if before.end > after.start:
                raise BadRecord(f"two extents hold physical address {after.start:#x}")
        self._reasons = sorted((hole for hole in holes if hole.size), key=lambda hole: hole.start)
        self._reason_starts = [hole.start for hole in self._reasons]

    @property
    def end(self) -> int:
        """The first physical address behind the last byte or known hole; 0 when empty."""
        pieces: list[Piece] = [*self.extents[-1:], *self._reasons]
        return max((piece.end for piece in pieces), default=0)

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return sum(extent.size for extent in self.extents)

    def at(self, address: int) -> Piece:
        """The extent or hole at physical `address`, from there to its end."""
        return next(self.pieces(address, EVERYWHERE))

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Extents and holes from physical address `start` to `end`, cut to that, without gaps."""
        index = max(0, bisect_right(self._starts, start) - 1)
        while start < end:
            while index < len(self.extents) and self.extents[index].end <= start:
                index += 1
            extent = self.extents[index] if index < len(self.extents) else None
            if extent is None or extent.start >= end:
                yield from self._holes(start, end)
                return
            if start < extent.start:
                yield from self._holes(start, extent.start)
                start = extent.start
            stop = min(extent.end, end)
            offset = extent.offset + start - extent.start
            yield Extent(start, stop - start, extent.store, offset)
            start = stop

    def _holes(self, start: int, end: int) -> Iterator[Hole]:
        index = max(0, bisect_right(self._reason_starts, start) - 1)
        for hole in self._reasons[index:]:
            if hole.end <= start:
                continue
            if hole.start >= end or start >= end:
                break
            if start < hole.start:
                yield Hole(start, hole.start - start)
                start = hole.start
            stop = min(hole.end, end)
            yield replace(hole, start=start, size=stop - start)
            start = stop
        if start < end:
            yield Hole(start, end - start)

    def holes(self) -> Iterator[Hole]:
        """What cannot be read below `end`."""
        return (piece for piece in self.pieces(0, self.end) if isinstance(piece, Hole))

    def view(self, address: int, size: int) -> memoryview:
        """`size` bytes at physical `address`, read-only; a copy only across extents.

        Raises NotInDump at the first byte that is in a hole.
        """
        index = bisect_right(self._starts, address) - 1
        if index >= 0:
            extent = self.extents[index]
            offset = address - extent.start
            if offset + size <= extent.size and size >= 0:
                return extent.store.view(extent.offset + offset, size)
        if size < 0 or address < 0 or address + size > EVERYWHERE:
            raise BadRecord(f"{size} bytes at physical address {address:#x}")
        return memoryview(self._join(address, size))

    def _join(self, address: int, size: int) -> bytes:
        # Looked at before a byte is read: a wild size fails at its first hole.
        for piece in self.pieces(address, address + size):
            if isinstance(piece, Hole):
                raise NotInDump(piece.start, piece.state.value, piece.why)
        pieces = self.pieces(address, address + size)
        return b"".join(
            piece.store.view(piece.offset, piece.size)
            for piece in pieces
            if isinstance(piece, Extent)
        )

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at physical `address`; NotInDump if one of them is in a hole."""
        return bytes(self.view(address, size))

    def stretches(
        self, start: int = 0, end: int | None = None, *, size: int = 16 << 20, overlap: int = 0
    ) -> Iterator[tuple[int, memoryview]]:
        """(physical address, bytes) of all that may not be zeros, in pieces, to be searched.

        size     bytes at the most in a piece
        overlap  bytes that a piece shows of the next, so that nothing is missed at a border;
                 pieces of different extents do not overlap
        """
        for piece in self.pieces(start, self.end if end is None else end):
            if isinstance(piece, Hole):
                continue
            stop = piece.offset + piece.size
            for offset, length in piece.store.data(piece.offset, piece.size):
                for at in range(offset, offset + length, size):
                    count = min(min(size, offset + length - at) + overlap, stop - at)
                    yield piece.start + at - piece.offset, piece.store.view(at, count)

    def find(self, pattern: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
        """Physical addresses at which `pattern` stands, in ascending order."""
        more = len(pattern) - 1
        for address, data in self.stretches(start, end, overlap=more):
            copied = bytes(data)  # bytes.find runs at the speed of memory, a regular expression not
            at = copied.find(pattern)
            while at >= 0:
                yield address + at
                at = copied.find(pattern, at + 1)
            yield from self._across(pattern, address + len(data))

    def _across(self, pattern: bytes, border: int) -> Iterator[int]:
        """Where `pattern` begins in one extent and ends in the one that follows at `border`."""
        index = bisect_right(self._starts, border) - 1
        if index <= 0 or self._starts[index] != border or self.extents[index - 1].end != border:
            return
        more = len(pattern) - 1
        first = max(border - more, self.extents[index - 1].start)
        size = min(border + more, self.extents[index].end) - first
        at = self.read(first, size).find(pattern)
        if at >= 0:
            yield first + at


def without_overlaps(extents: Iterable[Extent]) -> tuple[list[Extent], list[Extent]]:
    """(extents that do not overlap, the parts left out): where two overlap, the earlier counts."""
    kept: list[Extent] = []
    dropped: list[Extent] = []
    for extent in extents:
        covered = Memory(kept)
        for piece in covered.pieces(extent.start, extent.end):
            offset = extent.offset + piece.start - extent.start
            part = Extent(piece.start, piece.size, extent.store, offset)
            (kept if isinstance(piece, Hole) else dropped).append(part)
    return kept, dropped
