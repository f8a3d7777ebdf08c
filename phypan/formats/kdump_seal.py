"""The seal of a compressed dump: phypan's checksum of all that is before the page descriptors."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.formats._records import Bytes
from phypan.formats.kdump import Kdump, ReadAt

NT_SEAL = 0x50485007  # type of the PHYPAN note that holds a Seal
_SEAL = struct.Struct(">8sIII")
SEAL_MAGIC = b"PHYPSEAL"


@dataclass(frozen=True)
class Seal:
    """What the PHYPAN note of type NT_SEAL says: that the file has checksums.

    head   CRC-32 of all bytes before the page descriptors, but that this note's own content and
           what differs between the files of a split set count as zeros
    split  CRC-32 of the latter; makedumpfile --reassemble makes zeros of them
    """

    head: int
    split: int

    def write(self) -> bytes:
        """The content of the note."""
        start = _SEAL.pack(SEAL_MAGIC, self.head, self.split, 0)[:-4]
        return start + zlib.crc32(start).to_bytes(4, "big")

    @staticmethod
    def read(data: Bytes) -> Seal:
        """The Seal in a note; BadRecord when its own checksum is wrong."""
        if len(data) != _SEAL.size:
            raise BadRecord(f"{len(data)} bytes where {_SEAL.size} are needed", where="PHYPAN seal")
        magic, head, split, own = _SEAL.unpack(data)
        if magic != SEAL_MAGIC or own != zlib.crc32(data[:-4]):
            raise BadRecord("its own checksum is wrong", where="PHYPAN seal")
        return Seal(head, split)

    def holds(self, kdump: Kdump, seal_at: int, read_at: ReadAt) -> bool:
        """Whether the file behind `read_at` is as it was sealed."""
        now = seal(kdump, seal_at, read_at)
        return self.head == now.head and now.split in (self.split, _NO_SPLIT)


SEAL_SIZE = _SEAL.size
# Of the sub-header: split, start_pfn, end_pfn; start_pfn_64, end_pfn_64
_SPLIT_FIELDS = ((12, 20), (80, 16))
_NO_SPLIT = zlib.crc32(bytes(36))


def seal(kdump: Kdump, seal_at: int, read_at: ReadAt) -> Seal:
    """The Seal of a file, in which its content is at file offset `seal_at`."""
    fields = [(kdump.block_size + start, size) for start, size in _SPLIT_FIELDS]
    split = zlib.crc32(b"".join(bytes(read_at(start, size)) for start, size in fields))
    crc, position = 0, 0
    for start, size in sorted([*fields, (seal_at, SEAL_SIZE), (kdump.descriptors_at, 0)]):
        for low in range(position, start, 1 << 20):
            crc = zlib.crc32(read_at(low, min(1 << 20, start - low)), crc)
        crc = zlib.crc32(bytes(size), crc)
        position = max(position, start + size)
    return Seal(crc, split)
