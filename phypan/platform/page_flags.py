"""The second kernel's /proc/kpageflags: a 64-bit word for each page frame (fs/proc/page.c)."""

from __future__ import annotations

from collections.abc import Iterable

from phypan.platform.guest import Guest

KPF_RESERVED = 1 << 32  # the page is held back (kernel-page-flags.h); other bits are zero here


def read(
    guest: Guest, memory: int, held: Iterable[tuple[int, int]], offset: int, size: int
) -> bytes:
    """`size` bytes at `offset` of the file, fewer at its end.

    memory  bytes of memory
    held    (start, end) of what is held back, physical addresses in ascending order
    """
    page, order = guest.page_size, guest.byte_order
    last = min((offset + size) // 8, memory // page)
    words = bytearray(8 * max(0, last - offset // 8))
    reserved = KPF_RESERVED.to_bytes(8, order)
    for start, end in held:
        first, stop = max(start // page, offset // 8), min(end // page, last)
        if first < stop:
            at = 8 * first - offset
            words[at : at + 8 * (stop - first)] = reserved * (stop - first)
    return bytes(words)
