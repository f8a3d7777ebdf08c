"""Extents and holes: what is known of a range of physical addresses."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from phypan.errors import BadRecord
from phypan.pages.state import PageState
from phypan.stores import Store

NOWHERE = (PageState.ABSENT, "no part of the dump covers it")
EVERYWHERE = 1 << 64


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
    state: PageState = NOWHERE[0]
    why: str = NOWHERE[1]

    @property
    def end(self) -> int:
        """The first physical address behind it."""
        return self.start + self.size


Piece = Extent | Hole


def without_overlaps(extents: Iterable[Extent]) -> tuple[list[Extent], list[Extent]]:
    """(extents that do not overlap, the parts left out): where two overlap, the earlier counts."""
    given = list(checked(extents))
    kept: list[list[Extent]] = [[] for _ in given]
    for start, end, index in foremost(given):
        kept[index].append(part(given[index], start, end))
    dropped = [
        part(extent, start, end)
        for extent, parts in zip(given, kept, strict=True)
        for start, end in _between(extent, parts)
    ]
    return [part for parts in kept for part in parts], dropped


def part(extent: Extent, start: int, end: int) -> Extent:
    """What of `extent` is from physical address `start` to `end`, both in it."""
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


def checked(pieces: Iterable[_AnyPiece]) -> Iterator[_AnyPiece]:
    """Those that are not empty; BadRecord for one outside of the 64 bits of an address."""
    for piece in pieces:
        if piece.start < 0 or piece.size < 0 or piece.end > EVERYWHERE:
            raise BadRecord(f"{piece.size:#x} bytes at physical address {piece.start:#x}")
        if piece.size:
            yield piece


def foremost(pieces: Sequence[Piece]) -> Iterator[tuple[int, int, int]]:
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
