"""The pages of a KDUMP file, or of a split set of them: where each is stored, and what it holds."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from phypan.errors import BadRecord, NotInDump, PhypanError, Problem
from phypan.formats import kdump, kdump_descriptors
from phypan.formats.kdump import Kdump
from phypan.formats.kdump_descriptors import Descriptor
from phypan.pages import bits, codecs, zlib_codec
from phypan.pages.bits import Bits
from phypan.pages.bulk import Bulk, Kept, faults
from phypan.pages.codec import Decompress
from phypan.pages.state import PageMask, PageState
from phypan.pages.store import StoredPage
from phypan.stores import Store

MAX_FRAMES = 1 << 36  # 256 TiB of 4K pages, more than any POWER machine has
_ELSEWHERE = "it is in a file of the split set that was not given"
_STEP = 1 << 16  # descriptors that are looked at together


@dataclass(frozen=True)
class KdumpPart:
    """One file: its bytes and headers, and the page frames that it stores.

    first, last  page frame numbers, `last` excluded
    rank         how many pages the files before it store
    """

    store: Store
    head: Kdump
    first: int
    last: int
    rank: int = 0


class KdumpSet:
    """A PageReader of one file, or of all files of a split set that are here.

    stored    the bitmap of pages that are stored, in any file of the set
    memory    the bitmap of page frames that are memory; None where there is only one bitmap
    checked   whether a seal says that all pages have checksums
    problems  what the headers and bitmaps contradict each other in
    """

    def __init__(self, files: Sequence[tuple[Store, Kdump]], *, checked: bool = False) -> None:
        self.problems: list[Problem] = []
        self.checked = checked
        store, self.head = files[0]
        self.stored, self.memory = _bitmaps(store, self.head, self.problems)
        self.rank = bits.Rank(self.stored)
        self.parts = self._parts(files)
        self._zeros = bytes(self.head.block_size)
        self._crc32 = zlib_codec.crc32()
        self._zero_crc = self._crc32(self._zeros)
        self._zero_pages: dict[int, int] = {}
        self._threads = threading.local()
        self._bulk = Bulk(self)

    @property
    def total(self) -> int:
        """How many pages are stored, in all files of the set."""
        return self.rank[self.head.max_mapnr]

    def _parts(self, files: Sequence[tuple[Store, Kdump]]) -> list[KdumpPart]:
        if len(files) == 1 and self.head.split is None:
            return [KdumpPart(files[0][0], self.head, 0, self.head.max_mapnr)]
        parts: list[KdumpPart] = []
        for store, head in sorted(files, key=lambda file: file[1].split or (0, 0)):
            self._compare(store, head)
            first, last = head.split or (0, 0)
            last = min(last, head.max_mapnr)
            if parts and first < parts[-1].last:
                raise BadRecord(
                    f"page frames {first:#x} to {last:#x} overlap those of {parts[-1].store.name}",
                    where=store.name,
                    hint="was the same file given twice?",
                )
            parts.append(KdumpPart(store, head, first, last, self.rank[first]))
        have = sum(self.rank[part.last] - self.rank[part.first] for part in parts)
        if have < self.total:
            what = f"{len(parts)} files hold {have} of {self.total} pages"
            self.problems.append(
                Problem(what, "split set", "the others are holes; give all files, with --with")
            )
        return parts

    def _compare(self, store: Store, head: Kdump) -> None:
        """BadRecord if a file belongs to another dump than the first; a Problem for bitmaps."""
        mine = (self.head.order, self.head.block_size, self.head.max_mapnr, self.head.utsname)
        if (head.order, head.block_size, head.max_mapnr, head.utsname) != mine:
            raise BadRecord("it belongs to another dump than the first file", where=store.name)
        if head.split is None:
            raise BadRecord("it is a whole dump, and no part of a split set", where=store.name)
        stored, _ = _bitmaps(store, head, [])
        if bytes(stored) != bytes(self.stored):
            what = "its bitmaps are not those of the first file"
            self.problems.append(Problem(what, store.name, "the first file's are believed"))

    def part(self, pfn: int) -> KdumpPart | None:
        """The file that stores a page frame; None if it is not here."""
        for part in self.parts:
            if part.first <= pfn < part.last:
                return part
        return None

    def descriptor(self, part: KdumpPart, pfn: int) -> Descriptor:
        """Where the page of a frame is stored, whose bit in `stored` is set."""
        at = part.head.descriptors_at + (self.rank[pfn] - part.rank) * kdump.DESCRIPTOR_SIZE
        if at + kdump.DESCRIPTOR_SIZE > part.store.size:
            raise self._damaged(pfn, "the file ends before its descriptor")
        data = part.store.view(at, kdump.DESCRIPTOR_SIZE)
        return Descriptor(*kdump_descriptors.DESCRIPTOR[part.head.order].unpack(data))

    def stored_page(self, pfn: int) -> tuple[Descriptor, memoryview]:
        """(where and how the page of a frame is stored, the bytes), checked; else NotInDump."""
        part = self.part(pfn)
        if part is None:
            raise self._damaged(pfn, _ELSEWHERE)
        found = self.descriptor(part, pfn)
        fault = found.fault(self.head.block_size, part.store.size)
        if fault is None and self.checked and found.checksum is None:
            fault = "its descriptor has no checksum, although the file has"
        if fault is not None:
            raise self._damaged(pfn, fault)
        data = part.store.view(found.offset, found.size)
        told = found.checksum
        if told is not None:
            crc = self._crc32(data)
            if told != kdump_descriptors.checksum(pfn, found.size, found.flags, crc):
                raise self._damaged(pfn, "its checksum is wrong")
            if found.is_zeros and crc != self._zero_crc:
                raise self._damaged(pfn, "its descriptor says zeros, which are not there")
        return found, data

    def page(self, number: int) -> bytes:
        """The page of a frame; NotInDump if it is damaged."""
        found, data = self.stored_page(number)
        return self._zeros if found.is_zeros else self._expanded(number, found, data)

    def _expanded(self, number: int, found: Descriptor, data: memoryview) -> bytes:
        try:
            return self._decompressor(found.flags)(data, self.head.block_size)
        except BadRecord as error:
            raise self._damaged(number, error.what) from error

    def check(self, number: int) -> None:
        """NotInDump if a page is damaged: by its checksum, else by decompressing it."""
        found, data = self.stored_page(number)
        if found.checksum is None:
            self._expanded(number, found, data)

    def unsure(self, first: int, last: int) -> Iterable[int]:
        """Those of the stored pages from `first` to `last`, excluded, that check() may refuse."""
        return self._bulk.unsure(first, last)

    def kept(self, first: int, last: int) -> Kept | None:
        """The stored pages from `first` to `last`, excluded; None if not all are surely right."""
        return self._bulk.kept(first, last)

    def as_stored(self, number: int) -> StoredPage:
        """The page of a frame as it is stored; NotInDump if it is damaged."""
        found, data = self.stored_page(number)
        return StoredPage(found.flags, data, found.is_zeros or self.is_zero(number))

    def _decompressor(self, flags: int) -> Decompress:
        if not hasattr(self._threads, "decompressors"):
            self._threads.decompressors = {}
        known: dict[int, Decompress] = self._threads.decompressors
        if flags not in known:
            known[flags] = codecs.flagged(flags).decompressor()
        return known[flags]

    def _damaged(self, pfn: int, why: str) -> NotInDump:
        hint = "`phypan verify` lists all that is damaged"
        return NotInDump(pfn * self.head.block_size, PageState.DAMAGED.value, why, hint=hint)

    def data(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(first, how many) of the pages that are stored and are not known to be zeros."""
        for start, count, there in bits.runs(self.stored, first, last):
            if there:
                yield from self._not_zeros(start, start + count)

    def _not_zeros(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        start = first
        for low in range(first, last, _STEP):
            high = min(low + _STEP, last)
            known = self._bulk.zeros(low, high)
            if known is None:
                known = bytes(self.is_zero(pfn) for pfn in range(low, high))
            at = known.find(1)
            while at >= 0:
                if start < low + at:
                    yield start, low + at - start
                following = known.find(0, at)
                start = high if following < 0 else low + following
                at = -1 if following < 0 else known.find(1, following)
        if start < last:
            yield start, last - start

    def is_zero(self, pfn: int) -> bool:
        """Whether a stored page is known to hold zeros without being read."""
        part = self.part(pfn)
        if part is None:
            return False
        try:
            found = self.descriptor(part, pfn)
        except PhypanError:
            return False
        if found.checksum is not None:
            return found.is_zeros
        return found.flags == kdump.RAW and found.offset == self.zero_page(part)

    def zero_page(self, part: KdumpPart) -> int:
        """File offset of the page of zeros that makedumpfile writes first; 0 if there is none."""
        known = self._zero_pages.get(part.first)
        if known is None:
            stored = self.rank[part.last] - part.rank
            known = part.head.descriptors_at + stored * kdump.DESCRIPTOR_SIZE
            size = self.head.block_size
            if known + size > part.store.size or any(part.store.view(known, size)):
                known = 0
            self._zero_pages[part.first] = known
        return known

    def mask(self) -> PageMask:
        """Which pages are there: those that are stored, and whose descriptors can be right."""
        missing, damaged = self._damage()
        elsewhere = self._elsewhere()
        reasons: list[tuple[Bits, PageState, str]] = [
            (elsewhere, PageState.DAMAGED, _ELSEWHERE),
            (missing, PageState.DAMAGED, "the file was not finished, and does not have it"),
            (damaged, PageState.DAMAGED, "it is behind the end of the file, or its place is wrong"),
        ]
        if self.memory is not None:
            level = f" (dump level {self.head.dump_level})" if self.head.dump_level else ""
            why = f"left out when the dump was written{level}"
            reasons.append((self.memory, PageState.EXCLUDED, why))
        kept: Bits = self.stored
        for gone, _, _ in reasons[:3]:
            kept = bits.without(kept, gone)
        return PageMask(self.head.block_size, kept, reasons)

    def _elsewhere(self) -> bytes:
        """The stored pages of files that are not here."""
        missing = bytearray(b"\xff" * len(self.stored))
        for part in self.parts:
            bits.set_run(missing, part.first, part.last - part.first, False)
        return bits.both(missing, self.stored)

    def _damage(self) -> tuple[bytes, bytes]:
        """(pages that a descriptor says are missing, pages whose descriptor cannot be right)."""
        missing, damaged = bytearray(len(self.stored)), bytearray(len(self.stored))
        for part in self.parts:
            total = self.rank[part.last] - part.rank
            for index, count, zero in faults(part, total):
                first = self.rank.select(part.rank + index)
                last = self.rank.select(part.rank + index + count - 1)
                bits.set_run(missing if zero else damaged, first, last + 1 - first)
        return bits.both(missing, self.stored), bits.both(damaged, self.stored)

    def close(self) -> None:
        """Nothing: the files are closed by whoever opened them."""


def _bitmaps(store: Store, head: Kdump, problems: list[Problem]) -> tuple[Bits, Bits | None]:
    """(pages that are stored, page frames that are memory or None), cut to max_mapnr."""
    if head.max_mapnr > MAX_FRAMES:
        raise BadRecord(f"{head.max_mapnr:#x} page frames", where=kdump.WHERE)
    size, used = head.bitmap_size, -(-head.max_mapnr // 8)
    end = head.bitmaps_at + size * (2 if head.has_both_bitmaps else 1)
    if end > store.size:
        raise BadRecord(
            f"its bitmaps end at {end:#x}, the file at {store.size:#x}",
            where=store.name,
            hint="was the file cut short when it was copied? Without bitmaps no page can be found",
        )
    if not head.has_both_bitmaps:
        return store.view(head.bitmaps_at, used), None
    memory = store.view(head.bitmaps_at, used)
    stored = store.view(head.bitmaps_at + size, used)
    if extra := bits.count(bits.without(stored, memory)):
        what = f"{extra} pages are stored whose frames are not memory"
        problems.append(Problem(what, "bitmaps", "they are read all the same"))
    return stored, memory
