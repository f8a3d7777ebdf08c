"""Page flags: which memory the running kernel still holds back, as /proc/kpageflags tells.

fs/proc/page.c: a 64-bit word for each page frame, in the kernel's byte order. Bit 32, KPF_RESERVED,
is there since 2.6.31 (include/uapi/linux/kernel-page-flags.h).
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from phypan.ranges import Ranges

PAGE_SIZES = (4096, 65536)
_AT_ONCE = 1 << 20  # bytes


@dataclass(frozen=True)
class PageFlags:
    """/proc/kpageflags, and how it is read.

    page_size  of the running kernel, in bytes
    byte       of a word, the one with bit 32 of it: 4 of a little-endian kernel, 3 of the other
    """

    path: Path
    page_size: int
    byte: int

    def reserved(self, pages: range) -> bool | None:
        """Whether all of these page frames are held back; None if nothing tells, or of no page."""
        bits = self._bits(pages.start, len(pages))
        return None if len(bits) < len(pages) or not pages else b"\0" not in bits

    def given_back(self, start: int, end: int) -> Ranges:
        """What of [start, end), physical addresses, is not held back any more."""
        found, size = Ranges(), self.page_size
        last = end // size
        for first in range(start // size, last, _AT_ONCE // 8):
            bits = self._bits(first, min(_AT_ONCE // 8, last - first))
            at = bits.find(b"\0")
            while at >= 0:
                stop = bits.find(b"\1", at)
                stop = len(bits) if stop < 0 else stop
                found.add((first + at) * size, (first + stop) * size)
                at = bits.find(b"\0", stop)
        return found

    def _bits(self, first: int, count: int) -> bytes:
        """A byte for each page, 1 if it is held back; fewer where the file ends."""
        return _words(self.path, first, count)[self.byte :: 8].translate(_LOWEST_BIT)


_LOWEST_BIT = bytes(value & 1 for value in range(256))


def calibrated(root: Path, memory_end: int, held: int) -> PageFlags | None:
    """The page flags; None where there are none, or they do not tell what is held back.

    root        below which the system's files are
    memory_end  where memory ends, physical address
    held        a physical address that is held back for certain
    """
    path = root / "proc/kpageflags"
    if root.resolve() == Path("/"):
        sizes = [os.sysconf("SC_PAGESIZE")]
    else:  # the file of another system: it has a word for each page, up to the end of memory
        sizes = [size for size in PAGE_SIZES if _words(path, memory_end // size - 1, 1)][:1]
    for size in sizes:
        word = _words(path, held // size, 1)
        for byte in (4, 3) if sys.byteorder == "little" else (3, 4):
            if len(word) == 8 and word[byte] & 1:
                return PageFlags(path, size, byte)
    return None  # before 2.6.31 there was no such bit


def _words(path: Path, first: int, count: int) -> bytes:
    """The words of `count` page frames, fewer where the file ends; none if it cannot be read."""
    data = b""
    with suppress(OSError), path.open("rb", buffering=0) as file:
        while len(data) < 8 * count:
            more = os.pread(file.fileno(), 8 * count - len(data), 8 * first + len(data))
            if not more:
                break
            data += more
    return data
