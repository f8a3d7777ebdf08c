"""Dumps made of pages that a test chooses; no kernel is in them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from phypan import BytesStore, Cpu, Dump, Extent, Hole, Memory
from phypan.formats import pt_regs
from phypan.formats.vmcoreinfo import Vmcoreinfo

RELEASE = "6.1.0-made"


def content(kind: int, number: int, size: int) -> bytes:
    """A page: 0 of zeros, 1 that gets smaller, 2 of noise, 3 zeros but for its last byte."""
    if kind == 0:
        return bytes(size)
    if kind == 1:
        return (number.to_bytes(8, "big") * 5 + b"text").ljust(size // 2, b"-").ljust(size, b"=")
    if kind == 2:
        return random.Random(number).randbytes(size)
    return bytes(size - 1) + bytes([number % 255 + 1])


def made(
    kinds: Iterable[int | None],
    *,
    page_size: int = 4096,
    order: str = "little",
    cut: tuple[int, int] = (0, 0),
    holes: Iterable[Hole] = (),
) -> Dump:
    """A Dump whose page n is of the n-th kind; of None there is no page.

    cut  bytes that are missing of the first page and of the last one
    """
    extents, last = [], -1
    for number, kind in enumerate(kinds):
        if kind is not None:
            data = content(kind, number, page_size)
            extents.append(Extent(number * page_size, page_size, BytesStore(data), 0))
            last = number
    if extents and cut != (0, 0):
        first = extents[0]
        extents[0] = Extent(first.start + cut[0], first.size - cut[0], first.store, cut[0])
        end = extents[-1]
        extents[-1] = Extent(end.start, end.size - cut[1], end.store, end.offset)
    text = f"OSRELEASE={RELEASE}\nPAGESIZE={page_size}\nSYMBOL(_stext)=c000000000000000\n"
    regs = [pt_regs.of(range(n, 44 + n)) for n in range(2)]
    assert last >= -1
    return Dump(
        "made", Memory(extents, holes), [Cpu(n, kernel=one) for n, one in enumerate(regs)],
        order, page_size, Vmcoreinfo(text.encode()), crash_time=1700000000,
    )  # fmt: skip


def same_memory(first: Memory, second: Memory) -> None:
    """Assert that two memories hold the same bytes, and the same holes for the same reasons."""
    assert second.end >= first.end
    a, b = (list(memory.pieces(0, first.end)) for memory in (first, second))
    assert [(p.start, p.size, p.state, p.why) for p in a if isinstance(p, Hole)] == [
        (p.start, p.size, p.state, p.why) for p in b if isinstance(p, Hole)
    ]
    for piece in a:
        if isinstance(piece, Extent):
            assert first.read(piece.start, piece.size) == second.read(piece.start, piece.size)
