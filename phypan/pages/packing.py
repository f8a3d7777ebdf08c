"""Pages as they are to be stored: compressed where that makes them smaller, with checksums."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from phypan.formats._records import ByteOrder
from phypan.formats.kdump import RAW
from phypan.formats.kdump_descriptors import CHECKED, CHECKED_ZERO, DESCRIPTOR, checksum, dtype
from phypan.kernels import modes
from phypan.pages import zlib_codec
from phypan.pages.codec import Codec

Pages = bytearray | memoryview
_SPARE = 4096  # bytes that compressing a page may add to it, beside a sixth of it


class Packed(NamedTuple):
    """Pages to be stored, in order.

    The first three are of numpy where numba is in use, and gone like `data`.

    sizes      bytes stored of each page; 0 of one that is zeros
    flags      the compression of each page (formats.kdump)
    checksums  formats.kdump.checksum() of each page, where one of zeros is stored as it is
    data       the stored bytes, one page behind the other; gone with the packer's next call
    zeros      how many of the pages are zeros
    """

    sizes: Any
    flags: Any
    checksums: Any
    data: memoryview
    zeros: int = 0


def descriptors(
    order: ByteOrder, packed: Packed, page_size: int, position: int, zeros_at: int
) -> bytes:
    """The page descriptors of `packed`, whose data begins at file offset `position`.

    zeros_at  file offset of a page of zeros
    """
    if isinstance(packed.sizes, list | tuple):
        return _descriptors(order, packed, page_size, position, zeros_at)
    import numpy as np

    sizes = packed.sizes
    table = np.empty(len(sizes), dtype(order))
    offsets = table["offset"]
    np.subtract(np.cumsum(sizes), sizes - position, out=offsets, casting="unsafe")
    table["size"], table["flags"] = sizes, packed.flags
    table["page_flags"] = packed.checksums
    table["page_flags"] |= CHECKED << 32
    if packed.zeros:
        zero = sizes == 0
        offsets[zero], table["size"][zero] = zeros_at, page_size
        table["page_flags"][zero] = packed.checksums[zero] | CHECKED_ZERO << 32
    return table.tobytes()


def _descriptors(
    order: ByteOrder, packed: Packed, page_size: int, position: int, zeros_at: int
) -> bytes:
    """The same without numpy."""
    rows = []
    for size, flags, crc in zip(packed.sizes, packed.flags, packed.checksums, strict=True):
        if size:
            rows.append(DESCRIPTOR[order].pack(position, size, flags, CHECKED << 32 | crc))
            position += size
        else:
            marked = CHECKED_ZERO << 32 | crc
            rows.append(DESCRIPTOR[order].pack(zeros_at, page_size, flags, marked))
    return b"".join(rows)


class Packer(Protocol):
    """Packs some pages at a time, for one thread."""

    def __call__(self, pages: Pages, pfns: Sequence[int], known: bytearray) -> Packed:
        """The pages packed.

        pages  one behind the other; may be longer
        pfns   their page frame numbers
        known  1 for each that is known to be zeros: what `pages` holds of it does not matter
        """
        ...


def packer(codec: Codec, page_size: int, most: int) -> Packer:
    """What packs up to `most` pages at a time. The bytes do not depend on whether numba is here."""
    if codec.native is not None and modes.mode() == "numba" and zlib_codec.crc32_address():
        return _Compiled(codec, page_size, most)
    return _Plain(codec, page_size)


class _Compiled:
    """Packs without the GIL (kernels.pack)."""

    def __init__(self, codec: Codec, page_size: int, most: int) -> None:
        import numpy as np

        from phypan.kernels import pack

        assert codec.native is not None
        self._pack, self._numpy, self._page_size = pack.pack, np, page_size
        work, self._owner = codec.native.workspace()
        zero = zlib.crc32(bytes(page_size))
        self._codec = (codec.flag, codec.native.function, work, zlib_codec.crc32_address(), zero)
        self._scratch = np.empty(16, np.uint8)
        self._results = (np.empty(most, np.int64), np.empty(most, np.uint8),
                         np.empty(most, np.int64))  # fmt: skip
        self._out = np.empty(most * page_size + page_size // 6 + _SPARE, np.uint8)
        self._data = memoryview(self._out.data)

    def __call__(self, pages: Pages, pfns: Sequence[int], known: bytearray) -> Packed:
        np, count = self._numpy, len(known)
        held = self._pack(
            *self._codec, np.frombuffer(pages, np.uint8).ctypes.data, self._page_size,
            np.array(pfns, np.int64), np.frombuffer(known, np.uint8), self._scratch,
            *self._results, self._out,
        )  # fmt: skip
        sizes, flags, checksums = (result[:count] for result in self._results)
        return Packed(
            sizes, flags, checksums, self._data[:held], count - int(np.count_nonzero(sizes))
        )


class _Plain:
    """Packs page by page from Python."""

    def __init__(self, codec: Codec, page_size: int) -> None:
        self._flag, self._page_size = codec.flag, page_size
        self._compress, self._crc32 = codec.compressor(), zlib_codec.crc32()
        self._zeros = bytes(page_size)
        self._zero = self._crc32(self._zeros)

    def __call__(self, pages: Pages, pfns: Sequence[int], known: bytearray) -> Packed:
        size, view = self._page_size, memoryview(pages)
        rows = []
        for index, pfn in enumerate(pfns):
            page = b"" if known[index] else bytes(view[index * size : (index + 1) * size])
            if not page or page == self._zeros:
                rows.append((0, RAW, checksum(pfn, size, RAW, self._zero), b""))
            else:
                rows.append(self._stored(pfn, page))
        sizes, flags, checksums, data = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Packed(sizes, flags, checksums, memoryview(b"".join(data)), sizes.count(0))

    def _stored(self, pfn: int, page: bytes) -> tuple[int, int, int, bytes]:
        stored = self._compress(page) if self._flag != RAW else b""
        flags = self._flag
        if not 0 < len(stored) < self._page_size:
            stored, flags = page, RAW
        size = len(stored)
        return size, flags, checksum(pfn, size, flags, self._crc32(stored)), stored
