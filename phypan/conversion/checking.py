"""Checking: what of a dump is damaged, page by page."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from phypan.conversion.pipeline import threads_here
from phypan.dump import Dump
from phypan.errors import NotInDump, Problem
from phypan.memory import Memory
from phypan.pages import bits
from phypan.pages.state import PageMask, PageState
from phypan.pages.store import PageStore
from phypan.rows import Address, Bytes
from phypan.sinks import Progress, no_progress

_AT_ONCE = 2048  # pages that a thread checks before it is asked


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a dump.

    where    place in the file, or what is affected
    address  physical address of the first byte that is lost; None if none is
    """

    where: str
    address: Address | None
    size: Bytes | None
    what: str


@dataclass(frozen=True)
class Damage:
    """Physical memory that was to be there and cannot be read, and why."""

    start: int
    size: int
    why: str


def findings(dump: Dump, progress: Progress = no_progress) -> Iterator[Finding]:
    """All that is wrong: problems of the file, memory that is lost, pages that are damaged."""
    for problem in own_problems(dump):
        yield Finding(problem.where, None, None, f"{problem.what}; {problem.meaning}")
    for hole in dump.memory.holes():
        if hole.state is PageState.DAMAGED:
            yield Finding("memory", hole.start, hole.size, hole.why)
    for damage in damaged(dump, progress):
        yield Finding("page data", damage.start, damage.size, damage.why)


def own_problems(dump: Dump) -> list[Problem]:
    """The problems of the file itself, without those of what it was made of."""
    return [problem for problem in dump.problems if problem not in dump.inherited]


def damaged(dump: Dump, progress: Progress = no_progress) -> Iterator[Damage]:
    """The pages that turn out to be damaged when they are looked at, in ascending order.

    Where there are checksums they are compared, else pages are decompressed. What only lies in a
    file has nothing to be checked by.
    """
    last: Damage | None = None
    for start, size, why in _pages(dump.memory, progress):
        if last is not None and last.why == why and last.start + last.size == start:
            last = Damage(last.start, last.size + size, why)
            continue
        if last is not None:
            yield last
        last = Damage(start, size, why)
    if last is not None:
        yield last


def without(dump: Dump, damage: list[Damage]) -> Memory:
    """The memory of `dump`, with holes in the place of what is damaged."""
    size = dump.page_size
    frames = -(-dump.memory.end // size)
    gone = bytearray(-(-frames // 8))
    reasons: dict[str, bytearray] = {}
    for one in damage:
        first, last = one.start // size, -(-(one.start + one.size) // size)
        plane = reasons.setdefault(one.why, bytearray(len(gone)))
        bits.set_run(plane, first, last - first)
        bits.set_run(gone, first, last - first)
    everything = bytearray(b"\xff" * len(gone))
    planes = [(plane, PageState.DAMAGED, why) for why, plane in reasons.items()]
    return dump.memory.masked(PageMask(size, bits.without(everything, gone), planes))


def _pages(memory: Memory, progress: Progress) -> Iterator[tuple[int, int, str]]:
    """(physical address, bytes, why) of each damaged page."""
    total, done = memory.size, 0
    waiting: deque[Future[list[tuple[int, int, str]]]] = deque()
    threads = threads_here()
    pool = ThreadPoolExecutor(threads, "phypan")
    try:
        for start, offset, size, store in _batches(memory):
            waiting.append(pool.submit(_check, store, start, offset, size))
            done += size
            if len(waiting) > threads + 1:
                yield from waiting.popleft().result()
                progress(done, total)
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(memory: Memory) -> Iterator[tuple[int, int, int, PageStore]]:
    """(physical address, offset, bytes, store) of what lies in stores that can be checked."""
    for extent in memory.extents:
        if isinstance(extent.store, PageStore):
            step = _AT_ONCE * extent.store.page_size
            for low in range(0, extent.size, step):
                size = min(step, extent.size - low)
                yield extent.start + low, extent.offset + low, size, extent.store


def _check(store: PageStore, start: int, offset: int, size: int) -> list[tuple[int, int, str]]:
    unit = store.page_size
    found = []
    for number in store.unsure(offset // unit, -(-(offset + size) // unit)):
        try:
            store.check(number)
        except NotInDump as error:
            low, high = max(number * unit, offset), min((number + 1) * unit, offset + size)
            found.append((start + low - offset, high - low, error.why))
    return found
