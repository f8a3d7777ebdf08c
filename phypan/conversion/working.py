"""Workers: batches of pages, read and packed by whichever thread has time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice

from phypan.errors import NotInDump
from phypan.extents import Hole
from phypan.memory import Memory
from phypan.pages.codec import Codec
from phypan.pages.packing import Packed, Packer, Pages, packer
from phypan.pages.state import PageState
from phypan.stores import BytesStore, Store

BATCH = 4 << 20  # bytes of pages that a thread works on at a time
_MOST_STRETCHES = 8  # of data in a batch: where there are more, it is read without asking for zeros
Runs = list[tuple[int, int]]  # (first page frame number, how many)


@dataclass(frozen=True)
class Batch:
    """Some pages, as they are to be stored.

    pfns     their page frame numbers, in ascending order
    packed   what is stored of each; gone when the next batch is asked for
    damaged  frames that could not be read, and why: what `packed` has of them does not count
    """

    pfns: Sequence[int]
    packed: Packed
    damaged: dict[int, str] = field(default_factory=dict)


class Work:
    """What one batch needs while it is in work: used again and again."""

    def __init__(self, codec: Codec, page_size: int) -> None:
        most = max(1, BATCH // page_size)
        self.pages = bytearray(most * page_size)
        self.packer: Packer = packer(codec, page_size, most)
        self.batch: Batch


class Workers:
    """Does batches, in any thread."""

    def __init__(self, memory: Memory, page_size: int, codec: Codec) -> None:
        self._memory, self._page_size, self._codec = memory, page_size, codec
        self._idle: list[Work] = []
        self._lock = threading.Lock()

    def work(self, runs: Runs) -> Work:
        """The pages of `runs`, read and packed."""
        work = self._take()
        pfns = [pfn for first, count in runs for pfn in range(first, first + count)]
        known = bytearray(len(pfns))
        damaged: dict[int, str] = {}
        pages: Pages | None = self._in_process(runs)
        if pages is None:
            pages, index = work.pages, 0
            for first, count in runs:
                self._read(first, count, work.pages, index, known, damaged)
                index += count
        work.batch = Batch(pfns, work.packer(pages, pfns, known), damaged)
        return work

    def _take(self) -> Work:
        """What a batch needs, for this one alone until it is finished."""
        with self._lock:
            work = self._idle.pop() if self._idle else None
        return work or Work(self._codec, self._page_size)

    def _in_process(self, runs: Runs) -> memoryview | None:
        """The pages, if they lie in this process one behind the other: then nothing is copied."""
        (first, count), size = runs[0], self._page_size
        piece = self._memory.at(first * size)
        if len(runs) > 1 or isinstance(piece, Hole) or piece.size < count * size:
            return None
        if type(piece.store) is not BytesStore:  # of a class made from it nothing is known
            return None
        return piece.store.view(piece.offset, count * size)

    def finished(self, future: Future[Work]) -> Iterator[Batch]:
        """The batch that `future` makes; what it used is free again after it."""
        work = future.result()
        yield work.batch
        with self._lock:
            self._idle.append(work)

    def _read(
        self,
        first: int,
        count: int,
        pages: bytearray,
        index: int,
        known: bytearray,
        damaged: dict[int, str],
    ) -> None:
        """Read `count` pages into their place in `pages`, those that are known zeros excepted."""
        size = self._page_size
        buffer = memoryview(pages)[index * size : (index + count) * size]
        try:
            fill(self._memory, first * size, buffer, size, memoryview(known)[index : index + count])
        except NotInDump as error:
            if count == 1:
                damaged[first] = error.why
                known[index] = 1
                return
            for page in range(count):  # one of them is damaged: which one is found by itself
                self._read(first + page, 1, pages, index + page, known, damaged)


def fill(
    memory: Memory, address: int, buffer: memoryview, page_size: int, known: memoryview
) -> None:
    """Read pages at physical `address` into `buffer`; what is not memory is zeros.

    known  is set to 1 for each page that holds zeros without being stored: it is not read
    """
    position = 0
    for piece in memory.pieces(address, address + len(buffer)):
        part = buffer[position : position + piece.size]
        if isinstance(piece, Hole):
            if piece.state is PageState.DAMAGED and piece.size >= page_size:
                raise NotInDump(piece.start, piece.state.value, piece.why)
            part[:] = bytes(piece.size)
        else:
            _read_data(piece.store, piece.offset, part, position, page_size, known)
        position += piece.size


def _read_data(
    store: Store, offset: int, part: memoryview, position: int, page_size: int, known: memoryview
) -> None:
    """Read what is not zeros; whole pages of zeros are only marked."""
    size = len(part)
    stretches = list(islice(store.data(offset, size), _MOST_STRETCHES + 1))
    if len(stretches) > _MOST_STRETCHES:
        stretches = [(offset, size)]
    done = 0
    for start, length in [*stretches, (offset + size, 0)]:
        gap = start - offset - done
        if gap > 0:
            _zeros(part[done : done + gap], position + done, page_size, known)
        done = start - offset
        store.readinto(start, part[done : done + length])
        done += length


def _zeros(part: memoryview, position: int, page_size: int, known: memoryview) -> None:
    """Zeros from `position` on: pages that lie in them whole are marked, the rest is filled."""
    end = position + len(part)
    first, last = -(-position // page_size), end // page_size
    if first >= last:
        part[:] = bytes(len(part))
        return
    head, tail = first * page_size - position, last * page_size - position
    part[:head] = bytes(head)
    known[first:last] = b"\1" * (last - first)
    part[tail:] = bytes(len(part) - tail)
