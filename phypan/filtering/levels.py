"""The filter: a dump without the pages that a dump level leaves out, makedumpfile's -d."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from phypan.dump import Dump
from phypan.errors import Problem, Unsupported
from phypan.extents import Hole
from phypan.filtering.types import MAX_LEVEL, PageTypes, left_out, page_type
from phypan.kernels import modes
from phypan.memory import Memory
from phypan.pages import bits
from phypan.pages.state import PageMask, PageState

ZERO = 1  # of a dump level: pages of zeros, which are told by their content
_BY_STRUCT_PAGE = MAX_LEVEL & ~ZERO
_RUN = re.compile(rb"(.)\1*", re.DOTALL)


@dataclass(frozen=True)
class Filtered:
    """What a filter makes.

    dump    the same dump, and in its memory holes in the place of what is left out
    counts  how many pages are left out, by the name of their type
    """

    dump: Dump
    counts: Mapping[str, int] = field(default_factory=dict)


def filtered(dump: Dump, level: int, *, shortest: int = 1) -> Filtered:
    """`dump` without the pages that dump level `level` leaves out.

    level     sum of 1 zeros, 2 cache, 4 private cache, 8 user, 16 free. Pages of zeros are no
              holes: writers give them no room of their own. Any other than 0 and 1 leaves out
              poisoned and offline pages as well; makedumpfile does so at those two, too
    shortest  runs of fewer pages than this stay

    What the kernel does not tell leaves pages where they are, and is a Problem of the dump.
    """
    if not 0 <= level <= MAX_LEVEL:
        raise Unsupported(f"dump level {level}", hint=f"levels are 0 to {MAX_LEVEL}")
    result = replace(dump, dump_level=dump.dump_level | level, stores=())
    if not level & _BY_STRUCT_PAGE:
        return Filtered(result)
    types = PageTypes(dump)
    frames = -(-dump.memory.end // dump.page_size)
    planes = _planes(types, level, frames)
    dump.problems += types.problems
    if not types.known:
        meaning = "nothing is left out but pages of zeros"
        dump.problems.append(Problem("no struct page can be read", f"dump level {level}", meaning))
        return Filtered(replace(result, dump_level=dump.dump_level | level & ZERO))
    if shortest > 1:
        _keep_short_runs(planes, shortest, frames)
    here = present_pages(dump.memory, dump.page_size)
    counts: Counter[str] = Counter()
    for code, plane in planes.items():
        counts[page_type(code).name] += bits.count(bits.both(plane, here))
    result.memory = dump.memory.masked(_mask(planes, dump.page_size, frames, level))
    return Filtered(result, dict(counts))


def present_pages(memory: Memory, page_size: int) -> bytearray:
    """A bit for each page of which any part is there."""
    frames = -(-memory.end // page_size)
    found = bytearray(-(-frames // 8))
    for piece in memory.pieces(0, memory.end):
        if not isinstance(piece, Hole):
            first, last = piece.start // page_size, -(-piece.end // page_size)
            bits.set_run(found, first, last - first)
    return found


def _planes(types: PageTypes, level: int, frames: int) -> dict[int, bytearray]:
    """A bitmap of the pages to leave out for each type."""
    planes: dict[int, bytearray] = {}
    for first, codes in types:
        count = min(len(codes), max(0, frames - first))
        for code, start, length in _runs(codes, count, first, level):
            if code not in planes:
                planes[code] = bytearray(-(-frames // 8))
            if isinstance(length, int):
                bits.set_run(planes[code], start, length)
            else:
                _add(planes[code], start, length)
    return planes


def _runs(codes: Any, count: int, first: int, level: int) -> Iterator[tuple[int, int, Any]]:
    """(code, page frame number, how many, or their bits) of what is left out."""
    if modes.mode() != "plain" and first % 8 == 0:
        import numpy as np

        array = np.frombuffer(codes, np.uint8, count)
        for code in np.flatnonzero(np.bincount(array, minlength=1)).tolist():
            if left_out(code, level):
                yield code, first, np.packbits(array == code, bitorder="little").tobytes()
        return
    for match in _RUN.finditer(bytes(codes[:count])):
        if left_out(match[1][0], level):
            yield match[1][0], first + match.start(), match.end() - match.start()


def _add(plane: bytearray, start: int, more: bytes) -> None:
    """Set the bits of `more` from page frame number `start` on, a multiple of 8."""
    low = start // 8
    old = int.from_bytes(plane[low : low + len(more)], "little")
    value = old | int.from_bytes(more, "little")
    plane[low : low + len(more)] = value.to_bytes(len(more), "little")


def _keep_short_runs(planes: dict[int, bytearray], shortest: int, frames: int) -> None:
    gone = bytearray(-(-frames // 8))
    for plane in planes.values():
        _add(gone, 0, bytes(plane))
    for start, count, out in bits.runs(gone, 0, frames):
        if out and count < shortest:
            for plane in planes.values():
                bits.set_run(plane, start, count, False)


def _mask(planes: dict[int, bytearray], page_size: int, frames: int, level: int) -> PageMask:
    kept = bytearray(-(-frames // 8))
    bits.set_run(kept, 0, frames)
    remaining: bits.Bits = kept
    for plane in planes.values():
        remaining = bits.without(remaining, plane)
    reasons = [
        (plane, PageState.EXCLUDED, f"{page_type(code).name} page, left out by dump level {level}")
        for code, plane in planes.items()
    ]
    return PageMask(page_size, remaining, reasons)
