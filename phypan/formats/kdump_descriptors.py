"""Page descriptors of makedumpfile's compressed dump, and the checksums that phypan puts into them.

makedumpfile diskdump_mod.h (page_desc_t); crash diskdump.h. phypan uses `page_flags`, in which
other tools leave zeros.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes
from phypan.formats.kdump import COMPRESSIONS, RAW, Kdump

# offset in the file (0: the page is missing), size of what is stored, flags, page_flags
DESCRIPTOR = {order: struct.Struct(f"{mark}qIIQ") for order, mark in STRUCT_ORDER.items()}
# High half of page_flags where the low half is the page's checksum: "phyp", or "phyz" of a page
# of zeros, which all share one stored page.
CHECKED, CHECKED_ZERO = 0x70687970, 0x7068797A


class Descriptor(NamedTuple):
    """Where a page is stored: `size` bytes at `offset`, compressed as `flags` say.

    An offset of 0 means that the page is missing from an incomplete file.
    """

    offset: int
    size: int
    flags: int
    page_flags: int = 0

    @property
    def checksum(self) -> int | None:
        """What `checksum` must give for the page; None where there is none."""
        told = self.page_flags >> 32 in (CHECKED, CHECKED_ZERO)
        return self.page_flags & 0xFFFFFFFF if told else None

    @property
    def is_zeros(self) -> bool:
        """Whether it is marked as leading to the page of zeros."""
        return self.page_flags >> 32 == CHECKED_ZERO

    def fault(self, block_size: int, size: int) -> str | None:
        """What is wrong with it in a file of `size` bytes; None if nothing is."""
        if self.offset == 0:
            return "it is missing from the file, which was not finished"
        if self.flags not in COMPRESSIONS:
            return f"flags {self.flags:#x} in its descriptor, which no compression has"
        whole = self.size == block_size
        if self.size > block_size or self.size == 0 or (self.flags == RAW and not whole):
            return f"{self.size:#x} bytes stored of a page of {block_size:#x}"
        if self.offset < 0 or self.offset + self.size > size:
            return f"it is stored at {self.offset:#x}, the file ends at {size:#x}"
        return None


def read_descriptors(data: Bytes, order: ByteOrder) -> Iterator[Descriptor]:
    """The descriptors in `data`, which holds whole ones."""
    return map(Descriptor._make, DESCRIPTOR[order].iter_unpack(data))


@cache
def dtype(order: ByteOrder) -> Any:
    """numpy's type of a descriptor, with fields named as those of Descriptor."""
    import numpy as np

    kinds = zip(Descriptor._fields, ("i8", "u4", "u4", "u8"), strict=True)
    return np.dtype([(name, STRUCT_ORDER[order] + kind) for name, kind in kinds])


def faulty(data: Bytes, head: Kdump, size: int) -> Iterator[tuple[int, bool]]:
    """(index, whether the page is missing) of the descriptors in `data` that have a fault.

    size  bytes in the file
    """
    try:
        import numpy as np
    except ImportError:
        yield from _faulty(data, head, size)
        return
    table = np.frombuffer(data, dtype(head.order))
    last = np.int64(max(-1, size - 1))
    suspect = (table["offset"] <= 0) | (table["offset"] > last) | (table["size"] == 0)
    suspect |= (table["size"] > head.block_size) | ~np.isin(table["flags"], list(COMPRESSIONS))
    suspect |= (table["flags"] == RAW) & (table["size"] != head.block_size)
    suspect |= table["offset"] > size - table["size"].astype(np.int64)
    for index in np.flatnonzero(suspect):
        yield int(index), int(table["offset"][index]) == 0


def _faulty(data: Bytes, head: Kdump, size: int) -> Iterator[tuple[int, bool]]:
    """The same without numpy."""
    for index, found in enumerate(read_descriptors(data, head.order)):
        if found.fault(head.block_size, size):
            yield index, found.offset == 0


def checksum(pfn: int, size: int, flags: int, crc: int) -> int:
    """What phypan keeps in the low half of page_flags: of which page these bytes are, and them.

    CRC-32 of the bytes as they are stored (`crc`), XOR that of page frame number, size and flags
    of the descriptor (little-endian, 8 + 4 + 4 bytes). The offset is left out, so that files can
    be joined without reading their pages.
    """
    return crc ^ zlib.crc32(_CHECKED_FIELDS.pack(pfn, size, flags))


_CHECKED_FIELDS = struct.Struct("<QII")
