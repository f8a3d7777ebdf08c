"""makedumpfile's flattened format: a file as a stream of records, for pipes.

makedumpfile write_start_flat_header() and makedumpfile.h. All integers are big-endian:

    4096 bytes   "makedumpfile", type 1, version 1, zeros
    records      file offset, size, that many bytes; in any order, and a later one counts
    end          offset and size -1

What no record covers is zeros. What is inside keeps its own byte order.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from phypan.errors import BadRecord
from phypan.formats._records import Bytes

MAGIC = b"makedumpfile\0\0\0\0"
HEADER_SIZE = 4096
TYPE, VERSION = 1, 1
WHERE = "flattened header"
_HEADER = struct.Struct(">16sqq")
RECORD = struct.Struct(">qq")
END = RECORD.pack(-1, -1)


class RecordHead(NamedTuple):
    """In front of each record: where its bytes belong, and how many there are."""

    offset: int
    size: int

    @property
    def is_end(self) -> bool:
        """Whether it is the end of the stream."""
        return self.offset < 0 and self.size < 0


def write_header() -> bytes:
    """What a stream begins with."""
    return _HEADER.pack(MAGIC, TYPE, VERSION).ljust(HEADER_SIZE, b"\0")


def check_header(head: Bytes) -> None:
    """BadRecord if a stream that can be read does not begin with `head`."""
    if len(head) < HEADER_SIZE or bytes(head[:16]) != MAGIC:
        raise BadRecord("not a flattened dump", where=WHERE)
    _, kind, version = _HEADER.unpack_from(head)
    if (kind, version) != (TYPE, VERSION):
        raise BadRecord(f"type {kind}, version {version}; only 1, 1 is known", where=WHERE)


def read_record(data: Bytes, where: str) -> RecordHead:
    """The head of a record; BadRecord if it can be neither one nor the end."""
    if len(data) < RECORD.size:
        raise BadRecord(f"the stream ends in the head of a record, at {where}", where="flattened")
    head = RecordHead(*RECORD.unpack_from(data))
    if not head.is_end and (head.offset < 0 or head.size < 0 or sum(head) >= 1 << 63):
        raise BadRecord(f"{head.size} bytes for file offset {head.offset}, at {where}",
                        where="flattened")  # fmt: skip
    return head


def write_record(offset: int, size: int) -> bytes:
    """The head of a record of `size` bytes."""
    return RECORD.pack(offset, size)
