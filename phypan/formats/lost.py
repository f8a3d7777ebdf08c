"""The trailer of a file of which parts could not be read when it was written.

It is phypan's own, and stands behind all that the file's format knows of, where other tools do not
look: a core file's head was written before anyone knew what could not be read.

    JSON      list of [file offset, bytes, reason]
    >Q I 8s   bytes of JSON, CRC-32 of it, "PHYPLOST"
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from phypan.errors import BadRecord
from phypan.formats._records import Bytes

MAGIC = b"PHYPLOST"
FOOTER = struct.Struct(">QI8s")
MAX_SIZE = 64 << 20  # bytes
FILL = b"UNREADABLE HERE\n"  # what stands in the place of what could not be read
WHERE = "trailer"


class Lost(NamedTuple):
    """`size` bytes at file offset `at` that could not be read, and why."""

    at: int
    size: int
    why: str


def merged(lost: Iterable[Lost]) -> list[Lost]:
    """The same; what follows at once and for the same reason is one."""
    found: list[Lost] = []
    for entry in lost:
        if found and found[-1].at + found[-1].size == entry.at and found[-1].why == entry.why:
            found[-1] = found[-1]._replace(size=found[-1].size + entry.size)
        else:
            found.append(entry)
    return found


def write(lost: Iterable[Lost]) -> bytes:
    """The trailer."""
    text = json.dumps([list(entry) for entry in lost]).encode()
    return text + FOOTER.pack(len(text), zlib.crc32(text), MAGIC)


def trailer_size(end: Bytes) -> int | None:
    """Bytes of the trailer of a file whose last bytes are `end`; None if it has none.

    Raises BadRecord when it says that it is larger than such a thing can be.
    """
    if len(end) < FOOTER.size:
        return None
    size, _, magic = FOOTER.unpack(bytes(end[-FOOTER.size :]))
    if magic != MAGIC:
        return None
    if size > MAX_SIZE:
        raise BadRecord(f"{size} bytes of text", where=WHERE)
    return int(size) + FOOTER.size


def read(trailer: Bytes) -> list[Lost]:
    """What a trailer tells; BadRecord when it is damaged."""
    if len(trailer) < FOOTER.size:
        raise BadRecord(f"{len(trailer)} bytes", where=WHERE)
    text = bytes(trailer[: -FOOTER.size])
    size, checksum, magic = FOOTER.unpack(bytes(trailer[-FOOTER.size :]))
    if magic != MAGIC or size != len(text) or checksum != zlib.crc32(text):
        raise BadRecord("its checksum is wrong", where=WHERE)
    try:
        return [_lost(*entry) for entry in json.loads(text)]
    except (TypeError, ValueError, RecursionError) as error:
        raise BadRecord(f"not a list of what was lost: {error}", where=WHERE) from error


def _lost(at: object, size: object, why: object) -> Lost:
    if not isinstance(at, int) or not isinstance(size, int) or not isinstance(why, str):
        raise TypeError("offset, bytes, reason")
    if at < 0 or size <= 0 or at + size >= 1 << 64:
        raise ValueError(f"{size} bytes at {at}")
    return Lost(at, size, why)
