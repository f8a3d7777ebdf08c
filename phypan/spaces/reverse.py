"""Reverse maps: from physical addresses to the effective addresses that map them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phypan.spaces.hash import protection
from phypan.spaces.linear import LinearSpace
from phypan.spaces.space import Protection

if TYPE_CHECKING:
    from phypan.spaces.mapping import Spaces


@dataclass(frozen=True)
class Reverse:
    """An effective address that maps a physical one.

    context  0: the kernel's; else mm->context.id of the process; None: the VRMA's
    how      what maps it: "linear map", "page tables", "vmemmap_list", "hashed page table"
    """

    physical: int
    address: int
    context: int | None
    how: str
    page_size: int
    protection: Protection | None = None


def reverse(spaces: Spaces, physical: Iterable[int]) -> Iterator[Reverse]:
    """What maps the physical addresses, in no order: of the kernel; by a hashed page table of all.

    An address that the kernel's tables and the hashed page table both tell is told once.
    """
    wanted = sorted(set(physical))
    known = set()
    for found in (*_linear(spaces, wanted), *_by_tables(spaces, wanted)):
        known.add((found.physical, found.address))
        yield found
    if "hpt" in spaces:
        for found in _by_hash_table(spaces, wanted):
            if (found.physical, found.address) not in known:
                yield found


def _inside(wanted: list[int], start: int, size: int) -> list[int]:
    """Those that are in a range."""
    return wanted[bisect_left(wanted, start) : bisect_left(wanted, start + size)]


def _linear(spaces: Spaces, wanted: list[int]) -> Iterator[Reverse]:
    space = spaces["linear"]
    assert isinstance(space, LinearSpace)
    for physical in _inside(wanted, 0, spaces.memory.end):
        yield Reverse(physical, space.first + physical, 0, "linear map", space.page_size)


def _by_tables(spaces: Spaces, wanted: list[int]) -> Iterator[Reverse]:
    """By the kernel's tables, but for the linear map, which some of them have too."""
    if spaces.era is None:
        return
    linear, lists = spaces.era.region("linear"), spaces.era.mmu == "hash"
    vmemmap = spaces.era.region("vmemmap")
    for found in spaces["kernel"].mappings():
        if found.physical is None or found.first in linear:
            continue
        how = "vmemmap_list" if lists and found.first in vmemmap else "page tables"
        for physical in _inside(wanted, found.physical, found.size):
            address = found.first + physical - found.physical
            yield Reverse(physical, address, 0, how, found.page_size, found.protection)


def _by_hash_table(spaces: Spaces, wanted: list[int]) -> Iterator[Reverse]:
    for page in spaces.hash_table.pages(spaces.scheme):
        size = 1 << (page.entry.actual_shift or 0)
        for physical in _inside(wanted, page.entry.real, size) if size > 1 else ():
            address = (page.address & ~(size - 1)) + physical - page.entry.real
            allowed = protection(page.entry, user=bool(page.context))
            yield Reverse(physical, address, page.context, "hashed page table", size, allowed)
