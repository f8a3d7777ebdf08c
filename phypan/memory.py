"""Memory: the crashed partition's physical memory, and why a part of it is not there.

Extents, sorted by physical address, lie over stores. Whatever no extent covers is a hole, and a
hole has a reason. It is never read as zeros. Masks make holes in extents, page by page, for dumps
of which pages were left out.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from phypan.errors import BadRecord, InputError, NotInDump
from phypan.extents import EVERYWHERE, NOWHERE, Extent, Hole, Piece, checked, foremost, part
from phypan.pages.state import PageMask, PageState, Reason
from phypan.stores import Store

_SMALLEST = 2048  # bytes: less than any page, which is damaged as a whole


class Memory:
    """Physical memory, read by address.

    extents  must not overlap; need not be sorted
    holes    reasons for what no extent covers; of two that overlap the one given first counts, and
             an extent counts before any hole
    masks    pages that are not there although an extent covers them

    Raises BadRecord when two extents overlap, or something lies outside of 64 bits.
    """

    def __init__(
        self,
        extents: Iterable[Extent],
        holes: Iterable[Hole] = (),
        masks: Sequence[PageMask] = (),
    ) -> None:
        self._extents: Sequence[Extent] = sorted(checked(extents), key=lambda extent: extent.start)
        self._masks = tuple(masks)
        self._starts = [extent.start for extent in self._extents]
        for before, after in itertools.pairwise(self._extents):
            if before.end > after.start:
                raise BadRecord(f"two extents hold physical address {after.start:#x}")
        given = list(checked(holes))
        self._reasons = [
            replace(given[index], start=start, size=end - start)
            for start, end, index in foremost(given)
        ]
        self._reason_starts = [hole.start for hole in self._reasons]

    @property
    def end(self) -> int:
        """The first physical address behind the last byte or known hole; 0 when empty."""
        last: list[Piece] = [*self._extents[-1:], *self._reasons[-1:]]
        return max((piece.end for piece in last), default=0)

    @property
    def size(self) -> int:
        """Bytes that can be read."""
        return sum(extent.size for extent in self.extents)

    @property
    def extents(self) -> Iterator[Extent]:
        """The extents in ascending order; where pages are masked there may be very many."""
        for extent in self._extents:
            yield from (piece for piece in self._masked(extent) if isinstance(piece, Extent))

    def stores(self) -> Sequence[Store]:
        """What the extents lie over, each once."""
        return tuple({id(extent.store): extent.store for extent in self._extents}.values())

    def masked(self, mask: PageMask) -> Memory:
        """The same memory without the pages that `mask` does not keep; known reasons stay."""
        return Memory(self._extents, self._reasons, (*self._masks, mask))

    def at(self, address: int) -> Piece:
        """The extent or hole at physical `address`, from there to its end."""
        if not 0 <= address < EVERYWHERE:
            raise BadRecord(f"{address:#x} is no physical address")
        return next(self.pieces(address, EVERYWHERE))

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Extents and holes from physical address `start` to `end`, cut to that, without gaps."""
        if start < 0 or end > EVERYWHERE:
            raise BadRecord(f"{start:#x} to {end:#x} are no physical addresses")
        before: Hole | None = None
        for piece in self._pieces(start, end):
            if before is None:
                pass
            elif isinstance(piece, Hole) and (piece.state, piece.why) == (before.state, before.why):
                before = replace(before, size=before.size + piece.size)
                continue
            else:
                yield before
            before = piece if isinstance(piece, Hole) else None
            if before is None:
                yield piece
        if before is not None:
            yield before

    def _pieces(self, start: int, end: int) -> Iterator[Piece]:
        """The same, but that a hole may be in several pieces."""
        index = max(0, bisect_right(self._starts, start) - 1)
        while start < end:
            while index < len(self._extents) and self._extents[index].end <= start:
                index += 1
            extent = self._extents[index] if index < len(self._extents) else None
            if extent is None or extent.start >= end:
                yield from self._holes(start, end)
                return
            if start < extent.start:
                yield from self._holes(start, extent.start)
                start = extent.start
            stop = min(extent.end, end)
            yield from self._masked(part(extent, start, stop))
            start = stop

    def _masked(self, piece: Piece, level: int = 0) -> Iterator[Piece]:
        """`piece` without the pages that the masks from `level` on do not keep."""
        if level == len(self._masks) or isinstance(piece, Hole):
            yield piece
            return
        for start, size, reason in self._masks[level].runs(piece.start, piece.end):
            if reason is None:
                yield from self._masked(part(piece, start, start + size), level + 1)
            elif reason[0] is PageState.DAMAGED:
                yield Hole(start, size, *reason)
            else:  # the holes that are known may tell more
                yield from self._holes(start, start + size, reason)

    def _holes(self, start: int, end: int, reason: Reason = NOWHERE) -> Iterator[Hole]:
        """What is known of the range, in which no extent is."""
        first = max(0, bisect_right(self._reason_starts, start) - 1)
        for index in range(first, len(self._reasons)):
            hole = self._reasons[index]
            if hole.start >= end:
                break
            if hole.end <= start:
                continue
            if start < hole.start:
                yield Hole(start, hole.start - start, *reason)
                start = hole.start
            stop = min(hole.end, end)
            yield replace(hole, start=start, size=stop - start)
            start = stop
        if start < end:
            yield Hole(start, end - start, *reason)

    def holes(self) -> Iterator[Hole]:
        """What cannot be read below `end`."""
        return (piece for piece in self.pieces(0, self.end) if isinstance(piece, Hole))

    def view(self, address: int, size: int) -> memoryview:
        """`size` bytes at physical `address`, read-only; a copy only across extents.

        Raises NotInDump at the first byte that is in a hole.
        """
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and size > 0:
            extent = self._extents[index]
            offset = address - extent.start
            if offset + size <= extent.size and (not self._masks or self._there(address, size)):
                return extent.store.view(extent.offset + offset, size)
        if size < 0 or address < 0 or address + size > EVERYWHERE:
            raise BadRecord(f"{size} bytes at physical address {address:#x}")
        return memoryview(self._join(address, size))

    def _there(self, address: int, size: int) -> bool:
        return all(mask.covers(address, size) for mask in self._masks)

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

    def readinto(self, address: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes at physical `address`; NotInDump if one is in a hole."""
        done = 0
        for piece in self.pieces(address, address + len(buffer)):
            if isinstance(piece, Hole):
                raise NotInDump(piece.start, piece.state.value, piece.why)
            piece.store.readinto(piece.offset, buffer[done : done + piece.size])
            done += piece.size

    def state(self, address: int) -> tuple[PageState, str]:
        """What the dump has at physical `address`, and why if it has nothing."""
        piece = self.at(address)
        if isinstance(piece, Hole):
            return piece.state, piece.why
        if any(True for _ in piece.store.data(piece.offset, 1)):
            return PageState.PRESENT, ""
        return PageState.ZERO, "it holds zeros that are not stored"

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
                    for place, data in _readable(piece.store, at, count):
                        yield piece.start + place - piece.offset, data

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
        if index <= 0 or self._starts[index] != border or self._extents[index - 1].end != border:
            return
        more = len(pattern) - 1
        first = max(border - more, self._extents[index - 1].start)
        size = min(border + more, self._extents[index].end) - first
        with suppress(NotInDump):
            at = self.read(first, size).find(pattern)
            if at >= 0:
                yield first + at


def _readable(store: Store, offset: int, size: int) -> Iterator[tuple[int, memoryview]]:
    """(offset, bytes) of what can be read of a range: all of it, but for what is damaged."""
    try:
        yield offset, store.view(offset, size)
    except NotInDump:
        half = size // 2
        if half >= _SMALLEST:
            yield from _readable(store, offset, half)
            yield from _readable(store, offset + half, size - half)


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
