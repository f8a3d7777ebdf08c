"""A flattened dump, as makedumpfile -F and QEMU write it: an envelope around any other file.

Nothing is copied: an index says which part of the stream is where in the file inside.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from heapq import heappop, heappush

from phypan import (
    Input,
    InputError,
    PhypanError,
    Problem,
    Source,
    Store,
    Unsupported,
    hookimpl,
)
from phypan.formats import flattened


class _Stretches:
    """Stretches of the file inside: where each begins and ends, and its place in the stream."""

    def __init__(self) -> None:
        self.starts, self.ends, self.places = array("Q"), array("Q"), array("Q")

    def append(self, start: int, end: int, place: int) -> None:
        """Add a stretch, or let the last one grow by it."""
        if self.ends and (self.ends[-1], self.places[-1]) == (
            start,
            place + self.starts[-1] - start,
        ):
            self.ends[-1] = end
            return
        self.starts.append(start)
        self.ends.append(end)
        self.places.append(place)


_MOST_ZEROS = 64 << 20  # bytes that no record covers, in what is copied at once


class FlattenedStore:
    """The file inside of a flattened one."""

    def __init__(self, stream: Store) -> None:
        self.name = f"{stream.name} (flattened)"
        self._stream = stream
        self.problems: list[Problem] = []
        self._index = _in_order(_scan(stream, self.problems))
        self._size = self._index.ends[-1] if self._index.ends else 0

    @property
    def size(self) -> int:
        """Bytes up to the end of the last record's place."""
        return self._size

    def view(self, offset: int, size: int) -> memoryview:
        """A part of the stream where one record holds it all, else a copy."""
        self._check(offset, size)
        at = bisect_right(self._index.starts, offset) - 1
        if at >= 0 and offset + size <= self._index.ends[at]:
            return self._stream.view(self._index.places[at] + offset - self._index.starts[at], size)
        covered = sum(stretch[1] for stretch in self._stretches(offset, size))
        if size > covered + _MOST_ZEROS:  # a wild offset in a record makes no wild allocation
            raise InputError(f"most of {size:#x} bytes are not in the stream", where=self.name)
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer).toreadonly()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; what no record covers is zeros."""
        self._check(offset, len(buffer))
        done = 0
        for start, size, place in self._stretches(offset, len(buffer)):
            if (gap := start - offset - done) > 0:
                buffer[done : done + gap] = bytes(gap)
            done = start - offset
            self._stream.readinto(place, buffer[done : done + size])
            done += size
        buffer[done:] = bytes(len(buffer) - done)

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """What records cover."""
        return ((start, length) for start, length, _ in self._stretches(offset, size))

    def _stretches(self, offset: int, size: int) -> Iterator[tuple[int, int, int]]:
        """(offset, size, place in the stream) of what is covered."""
        index, end = self._index, offset + size
        for at in range(max(0, bisect_right(index.starts, offset) - 1), len(index.starts)):
            start, stop = max(index.starts[at], offset), min(index.ends[at], end)
            if index.starts[at] >= end:
                return
            if start < stop:
                yield start, stop - start, index.places[at] + start - index.starts[at]

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self._size:
            raise InputError(
                f"bytes {offset:#x} to {offset + size:#x} of {self._size:#x}", where=self.name
            )

    def close(self) -> None:
        """Nothing: the stream is closed by whoever opened it."""


def _scan(stream: Store, problems: list[Problem]) -> Iterator[tuple[int, int, int]]:
    """(start, end, place) of each record, in the order of the stream."""
    head = stream.view(0, min(stream.size, flattened.HEADER_SIZE))
    flattened.check_header(head)
    if any(head[32:]):
        problems.append(Problem("not all zeros behind the version", flattened.WHERE, "ignored"))
    position = flattened.HEADER_SIZE
    while True:
        where = f"byte {position:#x}"
        try:
            record = flattened.read_record(
                stream.view(position, min(flattened.RECORD.size, stream.size - position)), where
            )
        except PhypanError as error:
            problems.append(Problem(error.what, where, "what follows is lost"))
            return
        position += flattened.RECORD.size
        if record.is_end:
            break
        size = min(record.size, stream.size - position)
        if size:
            yield record.offset, record.offset + size, position
        if size < record.size:
            what = f"a record of {record.size:#x} bytes, and only {size:#x} follow"
            problems.append(Problem(what, where, "what follows is lost: was the stream cut short?"))
            return
        position += size
    if position < stream.size:
        what = f"{stream.size - position:#x} bytes behind the end of the stream"
        problems.append(Problem(what, f"byte {position:#x}", "ignored"))


def _in_order(records: Iterable[tuple[int, int, int]]) -> _Stretches:
    """Stretches in ascending order, without overlaps, of records of which a later one counts."""
    found, highest, sorted_already = _Stretches(), 0, True
    for start, end, place in records:
        sorted_already = sorted_already and start >= highest
        highest = max(highest, end)
        found.append(start, end, place)
    return found if sorted_already else _without_overlaps(found)


def _without_overlaps(found: _Stretches) -> _Stretches:
    """The same in ascending order: where stretches overlap the last of them counts."""
    result = _Stretches()
    waiting = sorted(range(len(found.starts)), key=found.starts.__getitem__, reverse=True)
    open_: list[int] = []  # a heap of those that `position` lies in, the last of the stream first
    position = 0
    while waiting or open_:
        if not open_:
            position = found.starts[waiting[-1]]
        while waiting and found.starts[waiting[-1]] <= position:
            heappush(open_, -waiting.pop())
        while open_ and found.ends[-open_[0]] <= position:
            heappop(open_)
        if open_:
            top = -open_[0]
            stop = min(found.ends[top], found.starts[waiting[-1]] if waiting else 1 << 64)
            result.append(position, stop, found.places[top] + position - found.starts[top])
            position = stop
    return result


def probe(given: Input) -> int:
    """Sure of what begins with makedumpfile's name."""
    return 95 if given.head.startswith(flattened.MAGIC) else 0


def open_(given: Input) -> Input:
    """The file inside."""
    if given.store is None:
        raise Unsupported("a directory is no stream", where=str(given.path))
    inside = FlattenedStore(given.store)
    head = bytes(inside.view(0, min(inside.size, 4096)))
    problems = (*given.problems, *inside.problems)
    return replace(given, store=inside, head=head, problems=problems)


@hookimpl
def phypan_sources() -> list[Source]:
    """The flattened dump."""
    help_ = "flattened dump (makedumpfile -F), around any other kind"
    return [Source("flattened", help_, probe, open_, envelope=True)]
