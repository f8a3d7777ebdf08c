"""What the disk holds of a file, past the page cache where that can be.

Memory is scarce in a second boot, and a page that was just written is still in the page cache: read
from there it says nothing about the disk, and read anew it takes memory away from others.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator

from phypan.descriptors import drop_cached, read_into

_PIECE = 4 << 20  # bytes read at a time
_BLOCK = 4096  # bytes: the largest logical block of a disk, which direct reads are multiples of


class DiskReader:
    """Reads what is durable of the file behind a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._fd, self._direct = descriptor, -1
        # It begins with a page, as direct reads want it, and goes with the last view of it: an
        # error on its way out still has one, and to close the mapping then would be another error.
        self._buffer = memoryview(mmap.mmap(-1, _PIECE))
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT
            self._direct = os.open(f"/proc/self/fd/{descriptor}", flags)
        except OSError:
            pass  # as on tmpfs: then through the page cache, after what was clean of it is dropped

    def pieces(self, at: int, size: int) -> Iterator[memoryview]:
        """The bytes from file offset `at`, in pieces that are good until the next one is asked for.

        They end early where the file ends. Raises OSError.
        """
        drop_cached(self._fd, at, size)
        end = at + size
        while at < end:
            skip = at % _BLOCK
            wanted = min(_PIECE - skip, end - at)
            blocks = -(-(skip + wanted) // _BLOCK) * _BLOCK
            found = min(self._read(self._buffer[:blocks], at - skip) - skip, wanted)
            if found <= 0:
                return
            yield self._buffer[skip : skip + found]
            at += found

    def _read(self, buffer: memoryview, at: int) -> int:
        """Bytes read into the buffer; both are of whole blocks."""
        if self._direct >= 0:
            try:
                return os.preadv(self._direct, [buffer], at)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self.close()  # blocks are larger here, or it is not done at all
        return read_into(self._fd, buffer, at)

    def close(self) -> None:
        """Close what was opened here; the descriptor is its owner's."""
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
