"""Going through all that a space holds: patterns, numbers, regular expressions, text.

Nothing is missed at a border of pages or files (phypan.spaces.runs). Threads look at the blocks,
while the kernels release the GIL.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Literal, TypeVar

from phypan.extents import EVERYWHERE, Extent
from phypan.formats._records import ByteOrder
from phypan.kernels import modes
from phypan.spaces import looking
from phypan.spaces.looking import Piece
from phypan.spaces.runs import Block, Run
from phypan.spaces.space import Space

Encoding = Literal["ascii", "utf-16le", "utf-16be"]
LONGEST = 4096  # bytes that a regular expression finds
_BLOCK = 8 << 20  # bytes that are looked at in one go
_ENCODINGS: dict[str, tuple[int, int]] = {  # bytes of a character, which of them has the letter
    "ascii": (1, 0),
    "utf-16le": (2, 0),
    "utf-16be": (2, 1),
}
_Found = TypeVar("_Found")


class Scan:
    """All that a space holds from effective address `first` to `end`.

    threads  that look for it; None: as many as there are CPUs. They help where numba is
    """

    def __init__(
        self, space: Space, first: int = 0, end: int = EVERYWHERE, *, threads: int | None = None
    ) -> None:
        self._space, self._first, self._end = space, first, end
        self._threads = threads or len(os.sched_getaffinity(0))

    def runs(self) -> Iterator[Run]:
        """What can be read, each without a gap, in ascending order."""
        run: Run | None = None
        for at, piece in self._pieces():
            if run is None or run.end != at:
                if run is not None:
                    yield run
                run = Run(at, at)
            run.add(at, piece)
        if run is not None:
            yield run

    def _pieces(self) -> Iterator[tuple[int, Extent]]:
        for found in self._space.mappings():
            first, end = max(found.first, self._first), min(found.end, self._end)
            if found.physical is None or first >= end:
                continue
            physical = found.physical + first - found.first
            for piece in self._space.memory.pieces(physical, physical + end - first):
                if isinstance(piece, Extent):
                    yield first + piece.start - physical, piece

    def _blocks(self, reach: int, *, zeros: bool = False) -> Iterator[Block]:
        """What is found is `reach` + 1 bytes long at the most; `zeros`: it may be all zeros."""
        for run in self.runs():
            for first, end in [(run.first, run.end)] if zeros else run.stored(reach):
                cuts = [*range(first, end, _BLOCK), end]
                for start, stop in pairwise(cuts):
                    yield Block(run, start, stop, min(stop + reach, run.end))

    def pattern(self, needle: bytes) -> Iterator[int]:
        """Effective addresses at which `needle` stands, in ascending order."""
        blocks = self._blocks(len(needle) - 1, zeros=not any(needle))
        how = modes.mode()
        look = looking.pattern if how == "numba" else looking.pattern_by_twin
        yield from self._each(blocks, lambda block: look(block, needle), how)

    def numbers(
        self, size: int, low: int, high: int, order: ByteOrder
    ) -> Iterator[tuple[int, int]]:
        """(effective address, value) of aligned words of 4 or 8 bytes from `low` to `high`."""
        how = modes.mode()
        look = looking.numbers if how == "numba" else looking.numbers_by_twin
        yield from self._each(
            self._blocks(size - 1, zeros=low == 0),
            lambda block: look(block, size, low, high, order),
            how,
        )

    def regex(self, wanted: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
        """(effective address, bytes) of what is matched; what is longer than LONGEST in pieces."""
        seen, of_zeros = 0, wanted.search(bytes(LONGEST))
        for block in self._blocks(LONGEST, zeros=bool(of_zeros and of_zeros[0])):
            for first, end, data in block.readable():
                for match in wanted.finditer(data, max(0, seen - first)):
                    if first + match.start() >= end:
                        break
                    if match[0]:
                        seen = first + match.end()
                        yield first + match.start(), match[0]

    def texts(self, least: int, encoding: Encoding) -> Iterator[tuple[int, int, memoryview]]:
        """(effective address, bytes in all, the first of them) of runs of printable characters.

        least  characters in a run
        """
        stride, letter = _ENCODINGS[encoding]
        for odd in range(stride):
            yield from _joined(self._texts(least, stride, letter, odd), least * stride)

    def _texts(self, least: int, stride: int, letter: int, odd: int) -> Iterator[Piece]:
        how = modes.mode()
        look = looking.texts if how == "numba" else looking.texts_by_twin
        blocks = self._blocks(stride - 1)
        yield from self._each(blocks, lambda block: look(block, least, stride, letter, odd), how)

    def _each(
        self,
        blocks: Iterable[Block],
        look: Callable[[Block], Iterator[list[_Found]]],
        how: modes.Mode,
    ) -> Iterator[_Found]:
        """What `look` finds, in order; each gives it in lists of which only the first is ready."""
        if how != "numba" or self._threads == 1:
            for block in blocks:
                for found in look(block):
                    yield from found
            return
        waiting: deque[Future[tuple[list[_Found], Iterator[list[_Found]]]]] = deque()

        def begun(block: Block) -> tuple[list[_Found], Iterator[list[_Found]]]:
            rest = look(block)
            return next(rest, []), rest

        with ThreadPoolExecutor(self._threads) as pool:
            try:
                for block in blocks:
                    waiting.append(pool.submit(begun, block))
                    if len(waiting) > 2 * self._threads:
                        yield from _given(waiting.popleft())
                while waiting:
                    yield from _given(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()


def _given(future: Future[tuple[list[_Found], Iterator[list[_Found]]]]) -> Iterator[_Found]:
    first, rest = future.result()
    yield from first
    for found in rest:
        yield from found


def _joined(pieces: Iterable[Piece], least: int) -> Iterator[tuple[int, int, memoryview]]:
    """Runs put together across the borders of blocks, those that are long enough."""
    address, size, text, open_ = 0, 0, memoryview(b""), False
    for at, data, begins, ends in pieces:
        if open_ and begins and at == address + size:
            if size < LONGEST:
                text = memoryview(bytes(text) + bytes(data[:LONGEST]))
            size, open_ = size + len(data), ends
            continue
        if size >= least:
            yield address, size, text[:LONGEST]
        address, size, text, open_ = at, len(data), data, ends
    if size >= least:
        yield address, size, text[:LONGEST]
