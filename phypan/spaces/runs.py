"""Runs: what a space maps without a gap, wherever it lies in memory and in files; and blocks."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from phypan.errors import NotInDump
from phypan.extents import Extent

_SMALLEST = 2048  # bytes: less than any page, which is damaged as a whole


@dataclass
class Run:
    """Bytes at effective addresses without a gap: where each piece of them lies in memory.

    pieces  extents of memory, cut to what is mapped, in the order of the addresses
    starts  the effective address of each
    """

    first: int
    end: int
    pieces: list[Extent] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    def add(self, at: int, piece: Extent) -> None:
        """Go on with `piece`, which begins at effective address `at`."""
        self.pieces.append(piece)
        self.starts.append(at)
        self.end = at + piece.size

    def view(self, first: int, end: int) -> memoryview:
        """The bytes from effective address `first` to `end`; a copy only across pieces."""
        index = bisect_right(self.starts, first) - 1
        parts = []
        while first < end:
            start, piece = self.starts[index], self.pieces[index]
            stop = min(end, start + piece.size)
            parts.append(piece.store.view(piece.offset + first - start, stop - first))
            first, index = stop, index + 1
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def stored(self, reach: int) -> Iterator[tuple[int, int]]:
        """(first, end) of what may not be zeros, and of `reach` bytes before it."""
        first = end = -1
        for start, piece in zip(self.starts, self.pieces, strict=True):
            for offset, size in piece.store.data(piece.offset, piece.size):
                at = start + offset - piece.offset
                if end >= 0 and at - reach <= end:
                    end = at + size
                    continue
                if end >= 0:
                    yield first, end
                first, end = max(self.first, at - reach), at + size
        if end >= 0:
            yield first, end


@dataclass(frozen=True)
class Block:
    """A part of a run that is looked at in one go.

    first, end  effective addresses: what is found must begin there
    behind      the end of the bytes that may be looked at
    """

    run: Run
    first: int
    end: int
    behind: int

    def readable(self) -> Iterator[tuple[int, int, memoryview]]:
        """(first, end, bytes from first on): all of it, but for what is damaged."""
        try:
            yield self.first, self.end, self.run.view(self.first, self.behind)
        except NotInDump:
            half = (self.end - self.first) // 2 & ~7
            if half >= _SMALLEST:
                middle = self.first + half
                yield from Block(self.run, self.first, middle, self.behind).readable()
                yield from Block(self.run, middle, self.end, self.behind).readable()
            elif self.behind > self.end:
                yield from Block(self.run, self.first, self.end, self.end).readable()
