"""The guest's memory: a file without a name that QEMU and phypan share.

It can be read while the guest is stopped, and costs what the guest has written to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedWriter
from pathlib import Path
from typing import Self

from phypan.errors import OutputError, Unsupported, os_errors

_CHUNK = 4 << 20  # bytes read at a time
_BLOCK = 1 << 16  # bytes: the smallest stretch of zeros that is not written
_ZEROS = bytes(_BLOCK)


class GuestMemory:
    """`size` bytes from physical address 0 on, zeros until the guest writes."""

    def __init__(self, size: int) -> None:
        if not hasattr(os, "memfd_create"):
            raise Unsupported("guests under QEMU need Linux", hint="take the synthetic guest")
        self.size = size
        self.descriptor = os.memfd_create("phypan-guest", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, size)

    @property
    def path(self) -> str:
        """Its name for a process that has inherited the descriptor."""
        return f"/proc/self/fd/{self.descriptor}"

    def blocks(self) -> Iterator[tuple[int, memoryview]]:
        """(physical address, up to 64 KiB) of what is not zeros. Good until the next one."""
        return blocks(self.descriptor, self.size)

    def save(self, path: Path) -> None:
        """Write it to a sparse file."""
        save(self.descriptor, self.size, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.descriptor)


def blocks(descriptor: int, size: int) -> Iterator[tuple[int, memoryview]]:
    """(offset, up to 64 KiB) of what is not zeros in a file. Good until the next one."""
    buffer = bytearray(_CHUNK)
    for start, end in _data(descriptor, size):
        for at in range(start, end, _CHUNK):
            count = os.preadv(descriptor, [memoryview(buffer)[: end - at]], at)
            for block in range(0, count, _BLOCK):
                length = min(_BLOCK, count - block)
                if not buffer.startswith(_ZEROS if length == _BLOCK else _ZEROS[:length], block):
                    yield at + block, memoryview(buffer)[block : block + length]


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what was ever written to."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            return
        at = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield start, at


def save(descriptor: int, size: int, path: Path) -> None:
    """Write the first `size` bytes of an open file to a sparse file."""
    with os_errors(OutputError, path), create(path) as file:
        for offset, data in blocks(descriptor, size):
            os.pwrite(file.fileno(), data, offset)
        file.truncate(size)


def make_sparse(path: Path) -> None:
    """Give back the blocks of a file that hold zeros."""
    unfinished = path.with_name(path.name + ".sparse")
    with os_errors(OutputError, path), path.open("rb") as file:
        save(file.fileno(), os.fstat(file.fileno()).st_size, unfinished)
        unfinished.rename(path)


def create(path: Path) -> BufferedWriter:
    """A new file that its owner only may read."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")
