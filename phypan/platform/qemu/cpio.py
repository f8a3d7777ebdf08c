"""An archive of files for an initial RAM disk: cpio's "new ASCII" format.

Linux Documentation/driver-api/early-userspace/buffer-format.rst: headers of 13 fields in eight
hexadecimal digits each, names and contents padded to four bytes, and a last entry "TRAILER!!!".
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

from phypan.errors import BadRecord

MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class File:
    """One entry.

    name    path without a leading slash
    mode    type and permissions, as stat has them
    data    contents; the target of a symbolic link
    device  (major, minor) of a device node
    """

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(name: str) -> File:
    """A directory that all may read."""
    return File(name, stat.S_IFDIR | 0o755)


def program(name: str, data: bytes) -> File:
    """A file that can be executed."""
    return File(name, stat.S_IFREG | 0o755, data)


def plain(name: str, data: bytes) -> File:
    """A file that is read."""
    return File(name, stat.S_IFREG | 0o644, data)


def character_device(name: str, major: int, minor: int) -> File:
    """A device node for root."""
    return File(name, stat.S_IFCHR | 0o600, device=(major, minor))


def write(files: Iterable[File]) -> bytes:
    """The archive: entries in the order given, all owned by root, dated 1970."""
    archive = bytearray()
    for number, file in enumerate((*files, File(_TRAILER, 0)), start=1):
        archive += _entry(number, file)
    return bytes(archive)


def _entry(number: int, file: File) -> bytes:
    name = file.name.encode() + b"\0"
    if len(file.data) > _MAX:
        raise BadRecord(f"{len(file.data)} bytes are too many for cpio", where=file.name)
    links = 2 if stat.S_ISDIR(file.mode) else 1
    # inode, mode, uid, gid, links, time, size, device of the file system, device node, name, check
    fields = (number, file.mode, 0, 0, links, 0, len(file.data), 0, 0, *file.device, len(name), 0)
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + name
    return _padded(head) + _padded(file.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
