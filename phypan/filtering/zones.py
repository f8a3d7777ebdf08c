"""The crashed kernel's nodes and zones, by VMCOREINFO: where they are, and what is free in them.

Linux include/linux/mmzone.h: struct pglist_data, struct zone, struct free_area.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan.dump import Dump
from phypan.errors import PhypanError, Problem
from phypan.formats.vmcoreinfo import Vmcoreinfo

_PAGE_OFFSET = 0xC000000000000000
_MAX_NODES = 4096
_MAX_ZONES = 16


@dataclass(frozen=True)
class Zone:
    """A zone: its number in the node, its page frames, the address of struct zone.

    VMCOREINFO does not tell where a zone begins: zones of a node are taken to follow each other.
    """

    number: int
    first: int
    spanned: int
    address: int


@dataclass(frozen=True)
class Node:
    """A NUMA node: its page frames, and its map of struct pages where it has one of its own."""

    number: int
    first: int
    spanned: int
    zones: tuple[Zone, ...] = ()
    mem_map: int | None = None


class _Reader:
    """Reads integers of the kernel's at effective addresses."""

    def __init__(self, dump: Dump) -> None:
        self._read, self._order = dump.spaces["kernel"].read, dump.byte_order

    def word(self, address: int, size: int = 8) -> int:
        """An unsigned integer."""
        return int.from_bytes(self._read(address, size), self._order)


def nodes(dump: Dump) -> Iterator[Node]:
    """The nodes that can be read, in ascending order of their numbers."""
    info = dump.vmcoreinfo
    if info is None:
        return
    reader = _Reader(dump)
    for number, address in _addresses(reader, info):
        try:
            node = _node(reader, info, number, address)
        except PhypanError:
            continue
        if node is not None:
            yield node


def _addresses(reader: _Reader, info: Vmcoreinfo) -> Iterator[tuple[int, int]]:
    """(number, address of struct pglist_data) of each node."""
    table, count = info.symbol("node_data"), info.length("node_data")
    if table is not None and count is not None:
        for number in range(min(count, _MAX_NODES)):
            try:
                address = reader.word(table + 8 * number)
            except PhypanError:
                continue
            if address >= _PAGE_OFFSET:
                yield number, address
    elif (only := info.symbol("contig_page_data")) is not None:
        yield 0, only


def _node(reader: _Reader, info: Vmcoreinfo, number: int, address: int) -> Node | None:
    places = [info.offset(f"pglist_data.node_{name}") for name in ("start_pfn", "spanned_pages")]
    if None in places:
        return None
    first, spanned = (reader.word(address + (place or 0)) for place in places)
    if not spanned:
        return None  # a node without memory
    own = info.offset("pglist_data.node_mem_map")
    mem_map = reader.word(address + own) if own is not None else 0
    zones = tuple(_zones(reader, info, address, first))
    return Node(number, first, spanned, zones, mem_map if mem_map >= _PAGE_OFFSET else None)


def _zones(reader: _Reader, info: Vmcoreinfo, node: int, first: int) -> Iterator[Zone]:
    places = (info.offset("pglist_data.node_zones"), info.offset("pglist_data.nr_zones"))
    size, spanned_at = info.size("zone"), info.offset("zone.spanned_pages")
    if places[0] is None or places[1] is None or size is None or spanned_at is None:
        return
    for number in range(min(reader.word(node + places[1], 4), _MAX_ZONES)):
        address = node + places[0] + number * size
        spanned = reader.word(address + spanned_at)
        if spanned:
            yield Zone(number, first, spanned, address)
            first += spanned


def free_blocks(dump: Dump, problems: list[Problem]) -> Iterator[tuple[int, int]]:
    """(address of the first struct page, order) of each block in the buddy allocator's lists.

    For kernels whose struct page alone does not tell (before 2.6.38 without NUMBER(PG_buddy)).
    """
    info = dump.vmcoreinfo
    area, lists = (info.size("free_area"), info.length("zone.free_area")) if info else (None, None)
    areas_at, link = (
        (info.offset("zone.free_area"), info.offset("page.lru")) if info else (None, None)
    )
    if info is None or area is None or lists is None or areas_at is None or link is None:
        what, meaning = (
            "zone.free_area or page.lru missing",
            "free pages cannot be told from others",
        )
        problems.append(Problem(what, "VMCOREINFO", meaning))
        return
    reader = _Reader(dump)
    heads = (info.offset("free_area.free_list") or 0, info.length("free_area.free_list") or 1)
    budget = dump.memory.end // dump.page_size + 1  # blocks: there are no more than pages
    for zone in (zone for node in nodes(dump) for zone in node.zones):
        for order in range(min(lists, 30)):
            for kind in range(min(heads[1], 64)):
                at = zone.address + areas_at + order * area + heads[0] + kind * 16
                for entry in _list(reader, at, budget, problems):
                    budget -= 1
                    yield entry - link, order


def _list(reader: _Reader, head: int, most: int, problems: list[Problem]) -> Iterator[int]:
    """The entries of a struct list_head, up to what cannot be followed."""
    before, entry = head, head
    for _ in range(most):
        try:
            entry = reader.word(before)
            if entry == head:
                return
            if reader.word(entry + 8) != before:  # list_head.prev
                raise PhypanError("the list is broken")
        except PhypanError as error:
            what, where = str(error), f"free list at effective address {head:#x}"
            problems.append(Problem(what, where, "the free pages behind that stay in the dump"))
            return
        yield entry
        before = entry
    problems.append(Problem("endless", f"free list at effective address {head:#x}", "cut off"))
