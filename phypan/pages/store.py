"""PageStore: a store made of pages that are decoded when they are asked for.

What was decoded last is kept, up to a number of bytes. Several threads may read at once: the cache
is under a lock, decoding is not.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from phypan.errors import InputError

if TYPE_CHECKING:  # it takes Construct, which the start does not need
    from phypan.pages.bulk import Kept

CACHE_SIZE = 64 << 20  # bytes


class PageReader(Protocol):
    """Decodes pages. It must be safe for threads."""

    def page(self, number: int) -> bytes:
        """The page of a number, whole; NotInDump if it is missing or damaged."""
        ...

    def data(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(first, how many) of the pages from `first` to `last`, excluded, that may hold data."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class StoredPage(NamedTuple):
    """A page as it is stored in a KDUMP file; `flags` as in a page descriptor."""

    flags: int
    data: memoryview
    zeros: bool


class PageStore:
    """The pages of a PageReader as bytes at offsets: page n is at n * page_size.

    cache_size  bytes of decoded pages to keep at the most; one page is always kept
    """

    def __init__(
        self, name: str, reader: PageReader, pages: int, page_size: int, cache_size: int
    ) -> None:
        self.name = name
        self.page_size = page_size
        self._reader, self._pages = reader, pages
        self._most = max(1, cache_size // page_size)
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of all pages, those that are missing too."""
        return self._pages * self.page_size

    def view(self, offset: int, size: int) -> memoryview:
        """A part of a page in the cache; across pages, a copy."""
        number, inside = divmod(offset, self.page_size)
        if inside + size <= self.page_size and 0 <= number < self._pages:
            return memoryview(self._page(number))[inside : inside + size]
        self._check(offset, size)
        pages = range(number, -(-(offset + size) // self.page_size))
        joined = b"".join(self._page(page) for page in pages)
        return memoryview(joined)[inside : inside + size]

    def _page(self, number: int) -> bytes:
        with self._lock:
            page = self._cache.get(number)
            if page is not None:
                self._cache.move_to_end(number)
                return page
        page = self._reader.page(number)
        with self._lock:
            self._cache[number] = page
            while len(self._cache) > self._most:
                self._cache.popitem(last=False)
        return page

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`. Pages are decoded for it alone: what is read once fills no cache."""
        self._check(offset, len(buffer))
        while buffer:
            number, inside = divmod(offset, self.page_size)
            count = min(self.page_size - inside, len(buffer))
            if count < self.page_size:
                page = self._page(number)
            else:
                with self._lock:
                    kept = self._cache.get(number)
                page = self._reader.page(number) if kept is None else kept
            buffer[:count] = page[inside : inside + count]
            buffer, offset = buffer[count:], offset + count

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """The parts that may hold other bytes than zeros."""
        end = offset + size
        last = -(-end // self.page_size)
        for first, count in self._reader.data(offset // self.page_size, last):
            low = max(offset, first * self.page_size)
            high = min(end, (first + count) * self.page_size)
            yield low, high - low

    def _check(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise InputError(
                f"bytes {offset:#x} to {offset + size:#x} of {self.size:#x}", where=self.name
            )

    def check(self, number: int) -> None:
        """NotInDump if a page is damaged, as far as that can be told."""
        ask = getattr(self._reader, "check", None)
        (ask or self._reader.page)(number)

    def unsure(self, first: int, last: int) -> Iterable[int]:
        """Those of the pages from `first` to `last`, excluded, that have to be checked one by one.

        The others are certain to be as they were written.
        """
        ask = getattr(self._reader, "unsure", None)
        return range(first, last) if ask is None else ask(first, last)

    def as_stored(self, number: int) -> StoredPage | None:
        """A page as it is stored, if the reader can tell; NotInDump if it is damaged."""
        ask = getattr(self._reader, "as_stored", None)
        return None if ask is None else ask(number)

    def kept(self, first: int, last: int) -> Kept | None:
        """The stored pages from `first` to `last`, excluded, if they are known to be right."""
        ask = getattr(self._reader, "kept", None)
        return None if ask is None else ask(first, last)

    def close(self) -> None:
        """Close what the pages are read from."""
        with self._lock:
            self._cache.clear()
        self._reader.close()
