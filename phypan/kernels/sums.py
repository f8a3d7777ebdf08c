"""Checksums of many stored pages at once, without the GIL.

Hosts without numba look at each page by itself (pages.kdump_set), which finds the same.
"""

from __future__ import annotations

from typing import Any

from phypan.formats.kdump import LZO, RAW, SNAPPY, ZLIB, ZSTD
from phypan.formats.kdump_descriptors import CHECKED, CHECKED_ZERO
from phypan.kernels.pack import _call3, _head_checksum, _njit


@_njit
def _placed(offset: int, stored: int, how: int, page_size: int, end: int) -> bool:
    """Whether a descriptor may be right in a file of `end` bytes."""
    if offset <= 0 or stored <= 0 or stored > page_size or offset > end - stored:
        return False
    if how == RAW:
        return stored == page_size
    return how == ZLIB or how == LZO or how == SNAPPY or how == ZSTD  # noqa: PLR1714 - numba


@_njit
def unsure(
    crc: int,
    zero_crc: int,
    zeros_at: int,
    file: int,
    end: int,
    page_size: int,
    first: int,
    offsets: Any,
    sizes: Any,
    flags: Any,
    page_flags: Any,
    scratch: Any,
    out: Any,
) -> int:
    """Which pages are not certain to be right: by their checksums, or because they have none.

    crc         address of a C function crc32(start, data, size)
    zero_crc    CRC-32 of a page of zeros
    zeros_at    file offset of a stored page that is known to be zeros, or 0
    file        address of the file's bytes, of which there are `end`
    page_size   bytes in a page
    first       page frame number of the first page; the others follow it
    offsets, sizes, flags  int64[], of the descriptors, as they are in the file
    page_flags  uint64[]
    scratch     uint8[16]
    out         int64[], overwritten with the indices of such pages

    Returns how many there are.
    """
    found, spare = 0, scratch.ctypes.data
    for index in range(offsets.size):
        at, stored, how = offsets[index], sizes[index], flags[index]
        mark, told = page_flags[index] >> 32, page_flags[index] & 0xFFFFFFFF
        if _placed(at, stored, how, page_size, end):
            head = _head_checksum(crc, first + index, stored, how, spare)
            if mark == CHECKED:
                if head ^ (_call3(crc, 0, file + at, stored) & 0xFFFFFFFF) == told:
                    continue
            elif mark == CHECKED_ZERO and at == zeros_at and head ^ zero_crc == told:
                continue
        out[found] = index
        found += 1
    return found
