"""Stores: bytes at offsets, whatever they lie in. Memory is made of pieces of stores.

A file is mapped: what is read of it is a view, and costs nothing until it is touched. Copying in
bulk goes through `readinto` instead, so that a conversion does not grow by what it has read.

A file that becomes shorter while it is open is an InputError, and never zeros. For views that holds
when they are asked for; touching one after that is a fault that no program survives.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, Self

from phypan.descriptors import read_into
from phypan.errors import InputError, os_errors


class Store(Protocol):
    """Bytes at offsets from 0 to `size`; reading beyond the end is an InputError."""

    name: str  # for messages: a path, or what it is inside of one

    @property
    def size(self) -> int:
        """Bytes in the store."""
        ...

    def view(self, offset: int, size: int) -> memoryview:
        """`size` bytes at `offset`, read-only, without a copy where that is possible."""
        ...

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes at `offset`."""
        ...

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """(offset, size) of the parts of a range that may hold other bytes than zeros."""
        ...

    def close(self) -> None:
        """Give back what it holds; views must not be used afterwards."""
        ...


class FileStore:
    """A regular file or block device on this machine, opened for reading."""

    def __init__(self, path: str | os.PathLike[str], *, descriptor: int | None = None) -> None:
        """Open `path`, or take over the open `descriptor` of what `path` is a name for."""
        self.name = os.fspath(path)
        # Not blocking: a FIFO without a writer is refused, not waited for.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        with os_errors(InputError, path):
            self._fd = os.open(path, flags) if descriptor is None else descriptor
        try:
            with os_errors(InputError, path):
                self._open()
        except BaseException:
            os.close(self._fd)
            raise

    def _open(self) -> None:
        mode = os.fstat(self._fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise InputError("neither a file nor a block device", where=self.name)
        if stat.S_ISREG(mode):
            with suppress(OSError):  # for an Output, which must not overwrite what is being read
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        self._size = os.lseek(self._fd, 0, os.SEEK_END)
        self._map: mmap.mmap | None = None
        with suppress(OSError, ValueError):  # empty, or a file system without mmap
            self._map = mmap.mmap(self._fd, self._size, prot=mmap.PROT_READ)

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._size

    @property
    def resident(self) -> bool:
        """Whether views are parts of a mapping, which cost nothing and stay what they are."""
        return self._map is not None

    def fileno(self) -> int:
        """The descriptor, for copies inside the operating system."""
        return self._fd

    def view(self, offset: int, size: int) -> memoryview:
        """A part of the mapped file."""
        self._check(offset, size)
        self._check_end(offset + size)
        if self._map is not None:
            return memoryview(self._map)[offset : offset + size]
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer).toreadonly()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` by pread, outside the mapping."""
        self._check(offset, len(buffer))
        with os_errors(InputError, self.name):
            end = offset + read_into(self._fd, buffer, offset)
        if end < offset + len(buffer):
            self._check_end(end + 1)
            raise InputError(f"nothing to read at byte {end:#x}", where=self.name)

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """The parts that the file system does not know to be holes."""
        self._check(offset, size)
        end = offset + size
        while offset < end:
            start, stop = self._next_data(offset, end)
            if start < stop:
                yield start, stop - start
            offset = stop
        self._check_end(end)  # what is behind the end of a file looks like a hole

    def _next_data(self, offset: int, end: int) -> tuple[int, int]:
        """(start, end) of the next data between `offset` and `end`; both are `end` if none is."""
        try:
            start = min(os.lseek(self._fd, offset, os.SEEK_DATA), end)
            return start, min(os.lseek(self._fd, start, os.SEEK_HOLE), end) if start < end else end
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but holes from there to the end of the file
                return end, end
            return offset, end  # the file system does not know holes

    def _check(self, offset: int, size: int) -> None:
        if self._fd < 0:
            raise InputError("closed already", where=self.name)
        if offset < 0 or size < 0 or offset + size > self._size:
            raise _beyond(self, offset, size)

    def _check_end(self, end: int) -> None:
        """InputError if the file has become shorter than `end` since it was opened."""
        now = os.lseek(self._fd, 0, os.SEEK_END)
        if now < end:
            raise InputError(
                f"has become shorter: {now:#x} bytes, {self._size:#x} when it was opened",
                where=self.name,
                hint="is something still writing it?",
            )

    def close(self) -> None:
        """Close the file."""
        if self._fd < 0:
            return
        if self._map is not None:
            with suppress(BufferError):  # a view is still in use: unmapped when that goes
                self._map.close()
        os.close(self._fd)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def spooled(descriptor: int, name: str) -> FileStore:
    """What comes through a pipe, in a file without a name that goes with the store.

    It lies in TMPDIR, which must have room for all of it. The caller closes the pipe.
    """
    with (
        os_errors(InputError, f"{name}, kept in {tempfile.gettempdir()}"),
        tempfile.TemporaryFile() as file,
        open(descriptor, "rb", closefd=False) as pipe,
    ):
        shutil.copyfileobj(pipe, file, 1 << 20)
        file.flush()
        return FileStore(name, descriptor=os.dup(file.fileno()))


class BytesStore:
    """Bytes in this process: small things, and tests."""

    resident = True

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "bytes") -> None:
        self.name = name
        self._data = memoryview(data).toreadonly().cast("B")

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._data)

    def view(self, offset: int, size: int) -> memoryview:
        """A part of them."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise _beyond(self, offset, size)
        return self._data[offset : offset + size]

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Copy them into `buffer`."""
        buffer[:] = self.view(offset, len(buffer))

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """All of the range."""
        if size:
            yield offset, size

    def close(self) -> None:
        """Nothing to give back."""


def _beyond(store: Store, offset: int, size: int) -> InputError:
    return InputError(f"no {size:#x} bytes at {offset:#x} of {store.size:#x}", where=store.name)
