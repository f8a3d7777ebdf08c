"""Descriptors: whole reads and writes, and names and files that are there after the power went."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from phypan.errors import OutputError, os_errors

Bytes = bytes | bytearray | memoryview


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Bytes read into `buffer` from file offset `offset`: fewer than it has only where none follow.

    Raises OSError.
    """
    done = 0
    while done < len(buffer):
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def write_at(descriptor: int, data: Bytes, offset: int) -> None:
    """Write all of `data` at file offset `offset`. Raises OSError."""
    view = memoryview(data).cast("B")
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def write_on(descriptor: int, data: Bytes) -> None:
    """Write all of `data` where the descriptor is, as into a pipe. Raises OSError."""
    view = memoryview(data).cast("B")
    while view:
        view = view[os.write(descriptor, view) :]


def drop_cached(descriptor: int, offset: int = 0, size: int = 0) -> None:
    """Have what is durable of a file read from the disk next, where the system knows how.

    size  bytes; 0 for all that follow. A kernel built without such advice has no such call.
    """
    with suppress(OSError):
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_DONTNEED)


def sync_folder(path: Path) -> None:
    """Make durable which names are in a folder; OutputError when that cannot be."""
    with os_errors(OutputError, path):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_file(path: Path, data: bytes) -> None:
    """Make `path` a file of `data`, readable by its owner only: all of it, or what was there."""
    unfinished = path.with_name(path.name + ".new")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    with os_errors(OutputError, path):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600)
        try:
            write_on(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(unfinished, path)
    sync_folder(path.parent)
