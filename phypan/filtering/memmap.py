"""Where the struct pages are: sparsemem with and without vmemmap, a flat map, one for each node.

Linux include/linux/mmzone.h, mm/sparse.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan.dump import Dump
from phypan.errors import PhypanError, Problem
from phypan.filtering import zones
from phypan.formats.vmcoreinfo import Vmcoreinfo

_PAGE_OFFSET = 0xC000000000000000
_HAS_MEM_MAP = 2  # bit 1 of section_mem_map, SECTION_HAS_MEM_MAP
_SECTION_FLAGS = 0x3F  # the low bits of section_mem_map that are no part of the address
_SECTION_SIZE_BITS = 24  # of every 64-bit kernel for POWER
_MAX_SECTIONS = 1 << 28  # 4 PiB


@dataclass(frozen=True)
class MapPart:
    """Struct pages, one behind the other: of `count` page frames from `pfn` on, at `address`."""

    pfn: int
    count: int
    address: int


def parts(dump: Dump, size: int, problems: list[Problem]) -> Iterator[MapPart]:
    """The struct pages of all memory, in ascending order of page frames.

    size  bytes of a struct page
    """
    info = dump.vmcoreinfo
    if info is None:
        return
    yield from _joined(_parts(dump, info, size, problems), size)


def _parts(dump: Dump, info: Vmcoreinfo, size: int, problems: list[Problem]) -> Iterator[MapPart]:
    frames = -(-dump.memory.end // dump.page_size)
    if info.symbol("mem_section") is not None:
        yield from _sparse(dump, info, size, frames, problems)
        return
    found = False
    for node in zones.nodes(dump):
        if node.mem_map is not None:
            count = min(node.spanned, max(0, frames - node.first))
            yield MapPart(node.first, count, node.mem_map)
            found = True
    if found:
        return
    if info.symbol("mem_map") is not None:
        address = _word(dump, info.symbol("mem_map") or 0)
        if address >= _PAGE_OFFSET:
            yield MapPart(0, frames, address)
    else:
        problems.append(Problem("neither mem_section nor mem_map", "VMCOREINFO", _MEANING))


_MEANING = "what pages are used for is unknown"


def _word(dump: Dump, address: int) -> int:
    return int.from_bytes(dump.spaces["kernel"].read(address, 8), dump.byte_order)


def _sparse(
    dump: Dump, info: Vmcoreinfo, size: int, frames: int, problems: list[Problem]
) -> Iterator[MapPart]:
    """A part for each section that has struct pages."""
    bits = info.number("SECTION_SIZE_BITS") or _SECTION_SIZE_BITS
    entry, offset = info.size("mem_section"), info.offset("mem_section.section_mem_map") or 0
    if not 20 <= bits <= 40 or entry is None or not 8 <= entry <= 4096:
        problems.append(
            Problem("mem_section has no size that can be right", "VMCOREINFO", _MEANING)
        )
        return
    in_section = (1 << bits) // dump.page_size
    sections = min(-(-frames // in_section), _MAX_SECTIONS)
    unreadable = 0
    for number, address in _sections(dump, info, entry, sections):
        try:
            coded = _word(dump, address + offset)
        except PhypanError:
            unreadable += 1
            continue
        if coded & _HAS_MEM_MAP:
            first = number * in_section
            place = ((coded & ~_SECTION_FLAGS) + first * size) % (1 << 64)
            if place >= _PAGE_OFFSET:
                yield MapPart(first, min(in_section, frames - first), place)
    if unreadable:
        what = f"{unreadable} sections cannot be read"
        problems.append(Problem(what, "mem_section", "what their pages are used for is unknown"))


def _sections(dump: Dump, info: Vmcoreinfo, entry: int, sections: int) -> Iterator[tuple[int, int]]:
    """(number, address) of each struct mem_section that there is.

    With SPARSEMEM_EXTREME mem_section is an array of pointers to pages of them, else it is the
    array itself. A pointer has none of its low bits set, and a section that is there has.
    """
    table = info.symbol("mem_section") or 0
    first = _first(dump, table, min(sections, info.length("mem_section") or sections))
    if first & _HAS_MEM_MAP:
        yield from ((number, table + number * entry) for number in range(sections))
        return
    in_root = dump.page_size // entry
    for root in range(-(-sections // in_root)):
        try:
            pointer = _word(dump, table + 8 * root)
        except PhypanError:
            continue
        if pointer < _PAGE_OFFSET:
            continue
        for index in range(min(in_root, sections - root * in_root)):
            yield root * in_root + index, pointer + index * entry


def _first(dump: Dump, table: int, count: int) -> int:
    """The first word of a table that is not 0; 0 if none of the first can be read."""
    for index in range(min(count, 4096)):
        try:
            word = _word(dump, table + 8 * index)
        except PhypanError:
            return 0
        if word:
            return word
    return 0


def _joined(found: Iterator[MapPart], size: int) -> Iterator[MapPart]:
    """The same; parts that follow each other, in frames and in addresses, made one."""
    last: MapPart | None = None
    for part in found:
        if (
            last is not None
            and last.pfn + last.count == part.pfn
            and last.address + last.count * size == part.address
        ):
            last = MapPart(last.pfn, last.count + part.count, last.address)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last
