"""Keeping: pages that are stored already are taken as they are, without being decompressed."""

from __future__ import annotations

from collections.abc import Iterator

from phypan.conversion.working import Batch, Runs, Work, Workers, fill
from phypan.errors import NotInDump
from phypan.extents import Hole, Piece
from phypan.formats.kdump import RAW
from phypan.formats.kdump_descriptors import checksum
from phypan.pages.bulk import Kept
from phypan.pages.packing import Packed
from phypan.pages.store import PageStore
from phypan.pages.zlib_codec import crc32

_Row = tuple[int, int, int, bytes | memoryview]  # of one page: size, flags, checksum, data


class Keepers(Workers):
    """Takes pages as they are stored; what is stored in another way is packed."""

    def work(self, runs: Runs) -> Work:
        """The pages of `runs`."""
        work = self._take()
        pfns = [pfn for first, count in runs for pfn in range(first, first + count)]
        found = [self._stored(piece) for piece in self._pieces(runs)]
        kept = [one for one in found if one is not None]
        if len(kept) == len(found):
            work.batch = Batch(pfns, _joined(kept), {})
        else:
            work.batch = self._one_by_one(pfns, work)
        return work

    def _pieces(self, runs: Runs) -> Iterator[Piece]:
        size = self._page_size
        for first, count in runs:
            yield from self._memory.pieces(first * size, (first + count) * size)

    def _stored(self, piece: Piece) -> Kept | None:
        """What is stored of a stretch of memory, if it is whole pages that are surely right."""
        size = self._page_size
        if isinstance(piece, Hole) or not isinstance(piece.store, PageStore):
            return None
        if piece.store.page_size != size or piece.offset % size or piece.size % size:
            return None
        number = piece.offset // size
        return piece.store.kept(number, number + piece.size // size)

    def _one_by_one(self, pfns: list[int], work: Work) -> Batch:
        rows, damaged = [], {}
        for pfn in pfns:
            try:
                rows.append(self._kept(pfn) or self._packed(pfn, work))
            except NotInDump as error:
                damaged[pfn] = error.why
                rows.append((0, RAW, 0, b""))
        sizes, flags, checksums, data = zip(*rows, strict=True)
        packed = Packed(sizes, flags, checksums, memoryview(b"".join(data)), sizes.count(0))
        return Batch(pfns, packed, damaged)

    def _kept(self, pfn: int) -> _Row | None:
        """A page as it is stored, if the store of all of it can tell."""
        size = self._page_size
        piece = next(self._memory.pieces(pfn * size, (pfn + 1) * size))
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

    def _packed(self, pfn: int, work: Work) -> _Row:
        """A page, packed by itself."""
        known = bytearray(1)
        buffer = memoryview(work.pages)[: self._page_size]
        fill(self._memory, pfn * self._page_size, buffer, self._page_size, memoryview(known))
        one = work.packer(work.pages, [pfn], known)
        return int(one.sizes[0]), int(one.flags[0]), int(one.checksums[0]), bytes(one.data)


def _joined(kept: list[Kept]) -> Packed:
    """The pages of all of them, one behind the other."""
    import numpy as np

    sizes, flags, checksums = (
        np.concatenate(column) for column in list(zip(*kept, strict=True))[:3]
    )
    views = [view for one in kept for view in one.data]
    data = views[0] if len(views) == 1 else memoryview(b"".join(views))
    return Packed(sizes, flags, checksums, data, int(np.count_nonzero(sizes == 0)))
