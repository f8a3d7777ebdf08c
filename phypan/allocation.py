"""What makes writing a long file faster, where the system has it. It may fail, and nothing is lost.

Blocks that are allocated before they are written need not be reserved one by one: on ext4 the page
cache then takes half as many bytes again in a second of a processor.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

_WRITEBACK = 32 << 20  # bytes after which the kernel is told to begin writing them
_STEP = 16 << 20  # bytes allocated at a time, once as many were written one behind the other
_NEVER = 1 << 62
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h


class Ahead:
    """Has blocks of a file allocated ahead of a writer that goes from front to back.

    What it writes before where it is at the furthest does not matter, such as the descriptors of
    pages. Where it leaves a gap, what was allocated in that is given back.
    """

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._start = self._end = self._allocated = 0  # of the stretch that is being written

    def wrote(self, offset: int, size: int) -> None:
        """Tell that `size` bytes at file offset `offset` were written."""
        if offset > self._end:
            self._give_back(offset)
            self._start = self._end = offset
        self._end = max(self._end, offset + size)
        self._allocated = max(self._allocated, self._end)
        if self._end - self._start >= _STEP and self._allocated - self._end < _STEP // 2:
            if _fallocate(self._fd, _KEEP_SIZE, self._allocated, _STEP):
                self._allocated += _STEP
            else:  # no such thing here, or no room: then writing will say so
                self._start = _NEVER

    def finish(self) -> bool:
        """Give back what was allocated and not written, and allocate no more; whether any was."""
        unused = self._allocated > self._end
        self._give_back(self._allocated)
        self._allocated, self._start = self._end, _NEVER
        return unused

    def _give_back(self, end: int) -> None:
        """Give back what was allocated and not written before file offset `end`."""
        size = min(end, self._allocated) - self._end
        if size > 0:
            _fallocate(self._fd, _KEEP_SIZE | _PUNCH_HOLE, self._end, size)


class Writeback:
    """Has the kernel begin to write what it holds of a file, so that fsync finds less to do."""

    def __init__(self, descriptor: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._fd, self._unwritten = descriptor, 0
        self._thread = ThreadPoolExecutor(1)  # the call takes the time of a disk

    def wrote(self, size: int) -> None:
        """Tell that `size` bytes were written."""
        self._unwritten += size
        if self._unwritten >= _WRITEBACK:
            self._thread.submit(start_writeback, self._fd)
            self._unwritten = 0

    def finish(self) -> None:
        """Wait until the kernel was told."""
        self._thread.shutdown(cancel_futures=True)


def start_writeback(descriptor: int) -> None:
    """Have the kernel begin to write all that it holds of a file."""
    import ctypes

    with suppress(OSError, AttributeError):  # not on this system: fsync does it all
        whole = map(ctypes.c_int64, (0, 0))
        _libc().sync_file_range(descriptor, *whole, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def _fallocate(descriptor: int, mode: int, offset: int, size: int) -> bool:
    """Linux's fallocate, and not posix_fallocate: that writes where the file system cannot."""
    import ctypes

    try:
        place = map(ctypes.c_int64, (offset, size))
        return not _libc().fallocate(descriptor, mode, *place)
    except (OSError, AttributeError):
        return False


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)
