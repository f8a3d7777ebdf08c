"""The pipeline: pages of memory are read, compressed in threads, and handed on in order.

What is in work is bounded whatever the size of the dump, and what comes out does not depend on the
number of threads.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from phypan.errors import NotInDump
from phypan.extents import Hole
from phypan.formats.kdump import RAW
from phypan.formats.kdump_descriptors import checksum
from phypan.memory import Memory
from phypan.pages import bits
from phypan.pages.bits import Bits
from phypan.pages.codec import Codec
from phypan.pages.packing import Packed, Packer, Pages, packer
from phypan.pages.state import PageState
from phypan.pages.store import PageStore
from phypan.pages.zlib_codec import crc32
from phypan.stores import BytesStore, Store

BATCH = 4 << 20  # bytes of pages that a thread works on at a time
_MOST_STRETCHES = (
    8  # of data in a batch: where there are more, it is read without looking for zeros
)
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


def threads_here() -> int:
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compressed(
    memory: Memory,
    stored: Bits,
    page_size: int,
    codec: Codec,
    *,
    keep: bool = False,
    threads: int = 0,
) -> Generator[Batch, None, None]:
    """Batches of the pages whose bits are set in `stored`, in ascending order.

    A page of which only a part is in memory has zeros in the place of the rest.

    keep     pages that are stored already are taken as they are; `codec` is for the others
    threads  that compress at the same time; 0 for one on each processor
    """
    threads = threads or threads_here()
    workers = (_Keepers if keep else _Workers)(memory, page_size, codec)
    pool = ThreadPoolExecutor(threads, "phypan")
    waiting: deque[Future[_Work]] = deque()
    try:
        for runs in _batches(stored, max(1, BATCH // page_size)):
            waiting.append(pool.submit(workers.work, runs))
            if len(waiting) > threads + 1:
                yield from workers.finished(waiting.popleft())
        while waiting:
            yield from workers.finished(waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(stored: Bits, most: int) -> Iterator[Runs]:
    """Runs of up to `most` pages together."""
    batch: Runs = []
    room = most
    for first, count, there in bits.runs(stored, 0, len(stored) * 8):
        start, end = first, first + count if there else first
        while start < end:
            taken = min(end - start, room)
            batch.append((start, taken))
            start, room = start + taken, room - taken
            if not room:
                yield batch
                batch, room = [], most
    if batch:
        yield batch


class _Work:
    """What one batch needs while it is in work: used again and again."""

    def __init__(self, codec: Codec, page_size: int) -> None:
        most = max(1, BATCH // page_size)
        self.pages = bytearray(most * page_size)
        self.packer: Packer = packer(codec, page_size, most)
        self.batch: Batch


class _Workers:
    """Does batches, in any thread."""

    def __init__(self, memory: Memory, page_size: int, codec: Codec) -> None:
        self._memory, self._page_size, self._codec = memory, page_size, codec
        self._idle: list[_Work] = []
        self._lock = threading.Lock()

    def work(self, runs: Runs) -> _Work:
        """The pages of `runs`, read and packed."""
        with self._lock:
            work = self._idle.pop() if self._idle else None
        work = work or _Work(self._codec, self._page_size)
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

    def _in_process(self, runs: Runs) -> memoryview | None:
        """The pages, if they lie in this process one behind the other: then nothing is copied."""
        (first, count), size = runs[0], self._page_size
        piece = self._memory.at(first * size)
        if len(runs) > 1 or isinstance(piece, Hole) or piece.size < count * size:
            return None
        if type(piece.store) is not BytesStore:  # of a class made from it nothing is known
            return None
        return piece.store.view(piece.offset, count * size)

    def finished(self, future: Future[_Work]) -> Iterator[Batch]:
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


class _Keepers(_Workers):
    """Takes pages as they are stored; what is stored in another way is packed."""

    def work(self, runs: Runs) -> _Work:
        """The pages of `runs`."""
        with self._lock:
            work = self._idle.pop() if self._idle else None
        work = work or _Work(self._codec, self._page_size)
        pfns, rows, damaged = [], [], {}
        for pfn in (pfn for first, count in runs for pfn in range(first, first + count)):
            pfns.append(pfn)
            try:
                rows.append(self._kept(pfn) or self._packed(pfn, work))
            except NotInDump as error:
                damaged[pfn] = error.why
                rows.append((0, RAW, 0, b""))
        sizes, flags, checksums, data = zip(*rows, strict=True)
        packed = Packed(sizes, flags, checksums, memoryview(b"".join(data)), sizes.count(0))
        work.batch = Batch(pfns, packed, damaged)
        return work

    def _kept(self, pfn: int) -> _Row | None:
        """A page as it is stored, if the store of all of it can tell."""
        size = self._page_size
        piece = self._memory.at(pfn * size)
        if isinstance(piece, Hole) or piece.size < size or not isinstance(piece.store, PageStore):
            return None
        number, inside = divmod(piece.offset, size)
        if inside or piece.store.page_size != size:
            return None
        found = piece.store.as_stored(number)
        if found is None:
            return None
        count = len(found.data)
        checked = checksum(pfn, count, found.flags, crc32()(found.data))
        return (0, RAW, checked, b"") if found.zeros else (count, found.flags, checked, found.data)

    def _packed(self, pfn: int, work: _Work) -> _Row:
        """A page, packed by itself."""
        known = bytearray(1)
        buffer = memoryview(work.pages)[: self._page_size]
        fill(self._memory, pfn * self._page_size, buffer, self._page_size, memoryview(known))
        one = work.packer(work.pages, [pfn], known)
        return int(one.sizes[0]), int(one.flags[0]), int(one.checksums[0]), bytes(one.data)


_Row = tuple[int, int, int, bytes | memoryview]  # of one page: size, flags, checksum, data


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
