"""LiveStore: the crashed partition's memory as a running kernel shows it, /proc/vmcore.

It is read and never mapped: memory that cannot be read is an error, not a signal. And what was
given back to the system is never read, for by now it is somebody else's.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Self

from phypan.descriptors import read_into
from phypan.errors import InputError, OutputError, os_errors
from phypan.ranges import Ranges


class LiveStore:
    """A file of the running kernel, opened for reading.

    gone  offsets of what was given back: reading any of it is an InputError
    """

    def __init__(self, path: str | os.PathLike[str], size: int | None = None) -> None:
        """Open `path`; its size is `size` where the kernel shows another or none."""
        self.name = os.fspath(path)
        self.gone = Ranges()
        with os_errors(InputError, path):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._size = os.fstat(self._fd).st_size if size is None else size

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self._size

    def lock(self) -> None:
        """Keep other phypan processes out until this is closed; OutputError if one reads it."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # not on this file system; the journal has a lock of its own
            what, hint = "another phypan reads it", "wait for that capture or command to end"
            raise OutputError(what, where=self.name, hint=hint) from error

    def view(self, offset: int, size: int) -> memoryview:
        """A copy: what is there now may change."""
        buffer = bytearray(size)
        self.readinto(offset, memoryview(buffer))
        return memoryview(buffer).toreadonly()

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; InputError where memory cannot be read."""
        end = offset + len(buffer)
        if offset < 0 or end > self._size:
            what = f"no {len(buffer):#x} bytes at {offset:#x} of {self._size:#x}"
            raise InputError(what, where=self.name)
        for start, stop in self.gone.within(offset, end):
            what = f"{start:#x} to {stop:#x} was given back to the system"
            raise InputError(what, where=self.name)
        with os_errors(InputError, self.name):
            read = offset + read_into(self._fd, buffer, offset)
        if read < end:
            raise InputError(f"nothing to read at {read:#x}", where=self.name)

    def data(self, offset: int, size: int) -> Iterator[tuple[int, int]]:
        """The parts that may hold other bytes than zeros: all of it, but for files with holes."""
        end = offset + size
        while offset < end:
            start, stop = self._next_data(offset, end)
            if start < stop:
                yield start, stop - start
            offset = stop

    def _next_data(self, offset: int, end: int) -> tuple[int, int]:
        try:
            start = os.lseek(self._fd, offset, os.SEEK_DATA)
            if start >= end:
                return end, end
            return start, min(os.lseek(self._fd, start, os.SEEK_HOLE), end)
        except OSError as error:
            # ENXIO: only holes from there on. What shows no such size is no file with holes.
            if error.errno == errno.ENXIO and end <= os.fstat(self._fd).st_size:
                return end, end
            return offset, end

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
