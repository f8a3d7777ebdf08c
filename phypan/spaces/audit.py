"""An audit of a hashed page table: entries that contradict what else is known.

The table is a cache of the kernel's page tables and of its linear map. An entry that maps something
else than they do is stale, damaged, or somebody's work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from phypan.kernels import tables
from phypan.memory import Memory
from phypan.spaces.batch import FAULTS
from phypan.spaces.hash import protection
from phypan.spaces.hashtable import HashedPage

if TYPE_CHECKING:
    from phypan.spaces.mapping import Spaces

_AT_ONCE = 1 << 15  # entries


@dataclass(frozen=True)
class Finding:
    """An entry that is wrong, its kind in a word or two, and what is wrong in words."""

    kind: str
    page: HashedPage
    what: str


def audit(spaces: Spaces) -> Iterator[Finding]:
    """What is wrong in the hashed page table of a dump, entry by entry."""
    pages = iter(spaces.hash_table.pages(spaces.scheme))
    while chunk := list(islice(pages, _AT_ONCE)):
        for page in chunk:
            yield from _by_itself(page, spaces.memory)
        if spaces.era is not None:
            kernel = [p for p in chunk if p.context == 0 and p.entry.actual_shift]
            yield from _against_tables(kernel, spaces)


def _by_itself(page: HashedPage, memory: Memory) -> Iterator[Finding]:
    entry = page.entry
    if entry.actual_shift is None:
        yield Finding("page size", page, "its page size is encoded in no way of this partition")
        return
    if page.misplaced:
        yield Finding("misplaced", page, "it is in a group that its address does not hash to")
    if page.duplicate:
        yield Finding("duplicate", page, "another entry for the same page is found before it")
    if entry.real + (1 << entry.actual_shift) > memory.end and "I" not in entry.wimg:
        yield Finding(
            "outside", page, f"it maps {entry.real:#x}, where the partition has no memory"
        )


def _against_tables(pages: list[HashedPage], spaces: Spaces) -> Iterator[Finding]:
    """Kernel pages whose address translates otherwise by the kernel's own tables."""
    space = spaces["kernel"]
    found = space.translate_many(page.address for page in pages)
    for n, page in enumerate(pages):
        fault, physical = int(found.faults[n]), int(found.physical[n])
        inside = page.address & (1 << (page.entry.actual_shift or 12)) - 1
        if fault == tables.OUTSIDE:
            yield Finding("page tables", page, "its address is in no region of the kernel")
        elif fault:
            yield Finding("page tables", page, f"by the page tables: {FAULTS[fault]}")
        elif physical != page.entry.real + inside:
            what = f"it maps {page.entry.real + inside:#x}, the page tables {physical:#x}"
            yield Finding("page tables", page, what)
        elif int(found.entries[n]) and protection(page.entry, user=False).write:
            allowed = space.translate(page.address).protection
            if allowed is not None and not allowed.write:
                what = "it allows writing, the page tables do not"
                yield Finding("protection", page, what)
