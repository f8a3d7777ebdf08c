"""Memory: the crashed partition's physical memory, and why a part of it is not there.

Extents, sorted by physical address, lie over stores. Whatever no extent covers is a hole, and a
hole has a reason. It is never read as zeros.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from phypan.errors import BadRecord, InputError, NotInDump
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
    holes    reasons for what no extent covers; of two that overlap the one given first counts, and
             an extent counts before any hole

    Raises BadRecord when two extents overlap, or something lies outside of 64 bits.
    """

    def __init__(self, extents: Iterable[Extent], holes: Iterable[Hole] = ()) -> None:
        self.extents: Sequence[Extent] = sorted(_checked(extents), key=lambda extent: extent.start)
        self._starts = [extent.start for extent in self.extents]
        for before, after in itertools.pairwise(self.extents):
            if before.end > after.start:
                raise BadRecord(f"two extents hold physical address {after.start:#x}")
        given = list(_checked(holes))
        self._reasons = [
            replace(given[index], start=start, size=end - start)
            for start, end, index in _foremost(given)
        ]
        self._reason_starts = [hole.start for hole in self._reasons]

    @property
    def end(self) -> int:
        """The first physical address behind the last byte or known hole; 0 when empty."""
        last: list[Piece] = [*self.extents[-1:], *self._reasons[-1:]]
        return max((piece.end for piece in last), default=0)

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return sum(extent.size for extent in self.extents)

    def at(self, address: int) -> Piece:
        """The extent or hole at physical `address`, from there to its end."""
        if not 0 <= address < EVERYWHERE:
            raise BadRecord(f"{address:#x} is no physical address")
        return next(self.pieces(address, EVERYWHERE))

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Extents and holes from physical address `start` to `end`, cut to that, without gaps."""
        if start < 0 or end > EVERYWHERE:
            raise BadRecord(f"{start:#x} to {end:#x} are no physical addresses")
        if start >= end:
            return
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self.extents)):
            extent = self.extents[index]
            if extent.end <= start:
                continue
            if extent.start >= end:
                break
            if start < extent.start:
                yield from self._holes(start, extent.start)
                start = extent.start
            stop = min(extent.end, end)
            yield _part(extent, start, stop)
            start = stop
        if start < end:
            yield from self._holes(start, end)

    def _holes(self, start: int, end: int) -> Iterator[Hole]:
        """What is known of the range, in which no extent is."""
        for index in range(
            max(0, bisect_right(self._reason_starts, start) - 1), len(self._reasons)
        ):
            hole = self._reasons[index]
            if hole.start >= end:
                break
            if hole.end <= start:
                continue
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


class MemoryStore:
    """A stretch of a Memory as a store: something of its own that lies in a partition's memory.

    Reading what is in a hole is NotInDump.
    """

    def __init__(self, memory: Memory, start: int, size: int) -> None:
        self.name = f"physical address {start:#x}"
        self._memory, self._start, self._size = memory, start, size

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._size

    def view(self, offset: int, size: int) -> memoryview:
        """A part of it."""
        if offset < 0 or offset + size > self._size:
            raise InputError(
                f"bytes {offset:#x} to {offset + size:#x} of {self._size:#x}", where=self.name
            )
        return self._memory.view(self._start + offset, size)

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Copy a part of it into `buffer`."""
        buffer[:] = self.view(offset, len(buffer))

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """All of the range."""
        yield offset, size

    def close(self) -> None:
        """Nothing to give back."""


def without_overlaps(extents: Iterable[Extent]) -> tuple[list[Extent], list[Extent]]:
    """(extents that do not overlap, the parts left out): where two overlap, the earlier counts."""
    given = list(_checked(extents))
    kept: list[list[Extent]] = [[] for _ in given]
    for start, end, index in _foremost(given):
        kept[index].append(_part(given[index], start, end))
    dropped = [
        _part(extent, start, end)
        for extent, parts in zip(given, kept, strict=True)
        for start, end in _between(extent, parts)
    ]
    return [part for parts in kept for part in parts], dropped


def _part(extent: Extent, start: int, end: int) -> Extent:
    return Extent(start, end - start, extent.store, extent.offset + start - extent.start)


def _between(whole: Extent, parts: Iterable[Extent]) -> Iterator[tuple[int, int]]:
    """(start, end) of what `parts`, which are in order, leave of `whole`."""
    at = whole.start
    for part in parts:
        if at < part.start:
            yield at, part.start
        at = part.end
    if at < whole.end:
        yield at, whole.end


_AnyPiece = TypeVar("_AnyPiece", Extent, Hole)


def _checked(pieces: Iterable[_AnyPiece]) -> Iterator[_AnyPiece]:
    """Those that are not empty; BadRecord for one outside of the 64 bits of an address."""
    for piece in pieces:
        if piece.start < 0 or piece.size < 0 or piece.end > EVERYWHERE:
            raise BadRecord(f"{piece.size:#x} bytes at physical address {piece.start:#x}")
        if piece.size:
            yield piece


def _foremost(pieces: Sequence[Piece]) -> Iterator[tuple[int, int, int]]:
    """(start, end, index) of what is seen of each piece when the first lies on top, by address.

    A sweep over the starts and ends with a heap of what covers the place: n log n, for a damaged
    file may describe a million pieces.
    """
    order = sorted(range(len(pieces)), key=lambda index: pieces[index].start)
    borders = sorted({border for piece in pieces for border in (piece.start, piece.end)})
    covering: list[int] = []  # indexes of pieces, the foremost first; some are behind us already
    position, seen = 0, (0, 0, -1)
    for start, end in itertools.pairwise(borders):
        while position < len(order) and pieces[order[position]].start == start:
            heapq.heappush(covering, order[position])
            position += 1
        while covering and pieces[covering[0]].end <= start:
            heapq.heappop(covering)
        if covering and (covering[0], start) == (seen[2], seen[1]):
            seen = (seen[0], end, seen[2])
        elif covering:
            if seen[2] >= 0:
                yield seen
            seen = (start, end, covering[0])
    if seen[2] >= 0:
        yield seen
