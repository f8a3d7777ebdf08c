"""Eras: what Linux's page tables for 64-bit PowerPC looked like, kernel after kernel.

An era is data. `ERAS` has one for each page size, MMU and span of releases in which nothing about
the tables changed; kernels/tables.py walks them all. A span of releases only names an era: which
one a dump is of is for phypan/spaces/detect.py to find out, since distributions port code back.

Sources: Linux arch/powerpc/include/asm/ of the releases named: pgtable-ppc64-{4k,64k}.h,
pgtable-hash64-{4k,64k}.h, pte-hash64-*.h, page.h and hugetlb.h (hugepd); since 4.4
book3s/64/{hash,hash-4k,hash-64k,radix-4k,radix-64k,pgtable}.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from phypan.kernels import tables

PAGE_OFFSET = 0xC000000000000000  # effective address of physical address 0 in the linear map
Mmu = Literal["hash", "radix"]
Release = tuple[int, ...]

_WORD = (1 << 64) - 1
_TOP_BIT, _NEXT_BIT = 1 << 63, 1 << 62


@dataclass(frozen=True)
class Region:
    """A part of the kernel's address space: effective addresses `first` to `last`."""

    name: str
    first: int
    last: int

    def __contains__(self, address: int) -> bool:
        return self.first <= address <= self.last


@dataclass(frozen=True)
class HugeDirectory:
    """hugepd: how an upper entry says that a table of huge pages is below it.

    It is one if entry & mask == value and entry & bits. The table is at entry & address | set.
    direct  its low six bits are a page shift; else an index of page sizes, times four
    """

    mask: int
    value: int
    bits: int
    address: int
    set: int = 0
    direct: bool = False


@dataclass(frozen=True)
class Entries:
    """What is in an entry.

    big            big-endian in every kernel; else in the kernel's own byte order
    virtual        upper entries hold effective addresses; else physical ones
    masked         bits of an upper entry that are not an address: of PMD, PUD and PGD
    present, leaf  bits: a leaf maps something; an upper entry is a leaf
    rpn            bits of a leaf that are its page number, and
    right, left    what makes a physical address of them: >> right << left
    write, execute, user, read, privileged, inhibited
                   bits that allow it; `read` 0: always allowed; `privileged`: not for user mode;
                   `inhibited`: not cached, as for IO
    """

    big: bool
    virtual: bool
    masked: tuple[int, int, int]
    present: int
    leaf: int
    rpn: int
    right: int
    left: int
    write: int
    execute: int
    user: int = 0
    read: int = 0
    privileged: int = 0
    inhibited: int = 0x20
    pfn_4k: int = 0
    huge: HugeDirectory | None = None


@dataclass(frozen=True)
class Era:
    """Page tables of one page size and MMU, from release `since` up to before `until`.

    index_bits  of PTE, PMD, PUD and PGD tables; a level of 0 bits does not exist
    regions     of the kernel's address space
    """

    mmu: Mmu
    page_shift: int
    since: Release
    until: Release | None
    index_bits: tuple[int, int, int, int]
    entries: Entries
    regions: tuple[Region, ...]

    @property
    def name(self) -> str:
        """For messages: "64K hash, Linux 4.17 to 5.1"."""
        since = ".".join(map(str, self.since))
        if self.until is None:
            span = f"since {since}"
        else:
            last = _before(self.until)
            span = since if last == since else f"{since} to {last}"
        return f"{1 << self.page_shift >> 10}K {self.mmu}, Linux {span}"

    @property
    def address_bits(self) -> int:
        """Bits of an effective address that the tables use."""
        return self.page_shift + sum(self.index_bits)

    @property
    def levels(self) -> tuple[tuple[str, int, int], ...]:
        """(name, shift, index bits) of each level, from the top."""
        shift, found = self.page_shift, []
        for name, bits in zip(("PTE", "PMD", "PUD", "PGD"), self.index_bits, strict=True):
            if bits:
                found.append((name, shift, bits))
            shift += bits
        return tuple(reversed(found))

    def region(self, name: str) -> Region:
        """A region by name: "linear", "vmalloc", "io" or "vmemmap"."""
        return next(region for region in self.regions if region.name == name)

    def region_of(self, address: int) -> Region | None:
        """The region of an effective address, None outside of all."""
        return next((region for region in self.regions if address in region), None)


_LAST_OF_SERIES: dict[Release, str] = {
    (3, 0): "2.6.39",
    (4, 0): "3.19",
    (5, 0): "4.20",
    (6, 0): "5.19",
}


def _before(release: Release) -> str:
    """The release before one."""
    return _LAST_OF_SERIES.get(release) or ".".join(map(str, (*release[:-1], release[-1] - 1)))


def kernel_facts(era: Era, root: int, *, native_big: bool) -> list[int]:
    """The facts that kernels/tables.py walks the kernel's tables by, from `root` on (physical).

    Hashed kernels have neither the linear map nor vmemmap in their tables; the first is added here.
    """
    facts = _facts(era, root, native_big)
    linear = era.region("linear")
    if era.mmu == "radix":
        first, last = linear.first, max(region.last for region in era.regions)
        facts[tables.LINEAR_FIRST], facts[tables.LINEAR_LAST] = 1, 0
    else:
        first, last = era.region("vmalloc").first, era.region("io").last
        facts[tables.LINEAR_FIRST], facts[tables.LINEAR_LAST] = linear.first, linear.last
    facts[tables.TOP] = first >> era.address_bits << era.address_bits
    facts[tables.FIRST], facts[tables.LAST] = first, last
    return facts


def user_facts(era: Era, root: int, *, native_big: bool) -> list[int]:
    """The same for a process's tables: `root` is mm->pgd, as a physical address."""
    facts = _facts(era, root, native_big)
    facts[tables.FIRST], facts[tables.LAST] = 0, (1 << era.address_bits) - 1
    facts[tables.LINEAR_FIRST], facts[tables.LINEAR_LAST] = 1, 0
    return facts


def radix_facts(root: int, shift: int, bits: int, *, top: int = 0) -> list[int]:
    """The facts of a radix tree as the hardware walks it (Power ISA 3.1, "Radix Tree Translation").

    root, bits  physical address and index bits (RPDS) of the top table
    shift       bits of an effective address that the tree translates
    top         bits of the address that it does not use
    """
    facts = [0] * tables.FACTS
    facts[tables.ROOT], facts[tables.TOP] = root, top
    facts[tables.FIRST], facts[tables.LAST] = top, top | (1 << shift) - 1
    facts[tables.RADIX] = facts[tables.BIG] = 1
    facts[tables.RPN] = 0x01FFFFFFFFFFF000
    facts[tables.FLAGS] = _WORD & ~facts[tables.RPN]
    facts[tables.PAGE_SHIFT] = 12
    facts[tables.LINEAR_FIRST] = facts[tables.LIST_FIRST] = 1
    facts[tables.LEVEL], facts[tables.LEVEL + 1] = shift - bits, bits
    return facts


def _facts(era: Era, root: int, native_big: bool) -> list[int]:
    entries, facts = era.entries, [0] * tables.FACTS
    facts[tables.ROOT] = root
    facts[tables.BIG] = int(entries.big or native_big)
    facts[tables.VIRTUAL] = PAGE_OFFSET if entries.virtual else 0
    facts[tables.PRESENT], facts[tables.LEAF_MASK] = entries.present, entries.leaf
    if entries.huge is not None:
        huge = entries.huge
        facts[tables.HUGE_MASK], facts[tables.HUGE_VALUE] = huge.mask, huge.value
        facts[tables.HUGE_BITS], facts[tables.HUGE_ADDRESS] = huge.bits, huge.address
        facts[tables.HUGE_SET], facts[tables.HUGE_DIRECT] = huge.set, int(huge.direct)
    facts[tables.RPN], facts[tables.PFN_4K] = entries.rpn, entries.pfn_4k
    facts[tables.RPN_RIGHT], facts[tables.RPN_LEFT] = entries.right, entries.left
    facts[tables.FLAGS] = _WORD & ~entries.rpn
    facts[tables.PAGE_SHIFT] = era.page_shift
    facts[tables.LIST_FIRST], facts[tables.LIST_LAST] = 1, 0
    facts[tables.LEVELS] = len(era.levels)
    masked = dict(zip(("PMD", "PUD", "PGD"), entries.masked, strict=True))
    for n, (name, shift, bits) in enumerate(era.levels):
        at = tables.LEVEL + tables.LEVEL_WORDS * n
        facts[at : at + tables.LEVEL_WORDS] = shift, bits, masked.get(name, 0)
    return facts


# --- what changed when ---------------------------------------------------------------------------

_HUGE_TOP_BIT = HugeDirectory(
    mask=_TOP_BIT, value=0, bits=_WORD, address=_WORD & ~0x3F, set=_TOP_BIT, direct=True
)
_HUGE_INDEX = HugeDirectory(mask=0x3, value=0, bits=0x3C, address=_WORD & ~0x3F)
_HUGE_PHYSICAL = HugeDirectory(
    mask=_NEXT_BIT, value=0, bits=0x3C, address=0x0FFFFFFFFFFFFFFF & ~0x3F
)
_MASKED = (0xC0000000000000FF,) * 3


def _old(right: int, page_shift: int) -> Entries:
    """Before 3.10."""
    return Entries(
        big=False, virtual=True,
        masked=(0x1FF, 0x1FF, 0) if page_shift == 16 else (0, 0, 0),
        present=0x1, leaf=0, rpn=_WORD & ~((1 << right) - 1), right=right, left=page_shift,
        user=0x2, execute=0x4, write=0x200,
        pfn_4k=0x20000000 if page_shift == 16 and right == 30 else 0,
        huge=_HUGE_TOP_BIT,
    )  # fmt: skip


def _entries(page_shift: int) -> dict[Release, Entries]:
    """Entries of hashed kernels of a page size, by the release that they came with."""
    small = page_shift == 12
    first = _old(17 if small else 32, page_shift)
    # drivers may map single 4K pages on 64K kernels from now on: two more bits
    second = _old(17 if small else 30, page_shift)
    # huge pages of 64K kernels are leaves of upper levels from now on; 4K kernels keep hugepd
    leaves_above = replace(
        second, leaf=0x3, masked=(0, 0, 0) if small else (0xFFF, 0x1FF, 0),
        huge=_HUGE_INDEX if small else None,
    )  # fmt: skip
    with_pte_bit = replace(
        leaves_above, present=0x2, leaf=0x1, user=0x4, execute=0x8,
        huge=replace(_HUGE_INDEX, mask=0x1) if small else None,
    )  # fmt: skip
    if small:
        with_pte_bit = replace(with_pte_bit, right=18, rpn=_WORD & ~((1 << 18) - 1))
    physical = Entries(
        big=False, virtual=False, masked=(0, 0, 0) if small else _MASKED,
        present=_TOP_BIT, leaf=_NEXT_BIT,
        rpn=(1 << 57) - (1 << page_shift), right=0, left=0,
        execute=0x1, write=0x2, user=0x8, pfn_4k=0 if small else 0x2000,
        huge=_HUGE_PHYSICAL if small else None,
    )  # fmt: skip
    as_radix = replace(physical, big=True, masked=_MASKED, user=0, read=0x4, privileged=0x8)
    shorter = replace(as_radix, rpn=(1 << 53) - (1 << page_shift))
    return {
        (2, 6, 14): first, (2, 6, 21): second, (3, 10): leaves_above,
        (4, 5): with_pte_bit, (4, 6): physical, (4, 7): as_radix, (4, 11): shorter,
    }  # fmt: skip


_GEOMETRY: dict[tuple[Mmu, int], dict[Release, tuple[int, int, int, int]]] = {
    ("hash", 12): {(2, 6, 14): (9, 7, 7, 9), (3, 7): (9, 7, 9, 9)},
    ("hash", 16): {
        (2, 6, 14): (12, 12, 0, 4), (3, 7): (12, 12, 0, 6), (3, 10): (8, 10, 0, 12),
        (4, 6): (8, 5, 5, 12), (4, 12): (8, 10, 7, 8), (4, 17): (8, 10, 10, 8),
    },
    ("radix", 12): {(4, 7): (9, 9, 9, 13)},
    ("radix", 16): {(4, 7): (5, 9, 9, 13)},
}  # fmt: skip
_T = 1 << 40


def _apart(size: int, vmalloc: int) -> tuple[Region, ...]:
    """Hashed kernels before 5.2: a region for each top nibble."""
    start = 0xD000000000000000
    return (
        Region("linear", PAGE_OFFSET, start - 1),
        Region("vmalloc", start, start + vmalloc - 1),
        Region("io", start + vmalloc, start + size - 1),
        Region("vmemmap", 0xF000000000000000, _WORD),
    )


def _together(*parts: tuple[str, int, int]) -> tuple[Region, ...]:
    """All under 0xc: the linear map, then (name, start, size) of what is behind it."""
    first = min(start for _, start, _ in parts)
    return (
        Region("linear", PAGE_OFFSET, first - 1),
        *(Region(name, start, start + size - 1) for name, start, size in parts),
    )


def _in_a_row(start: int, size: int) -> tuple[Region, ...]:
    names = ("vmalloc", "io", "vmemmap")
    return _together(*((name, start + n * size, size) for n, name in enumerate(names)))


_REGIONS: dict[tuple[Mmu, int], dict[Release, tuple[Region, ...]]] = {
    ("hash", 12): {
        (2, 6, 14): _apart(16 * _T, 8 * _T), (3, 7): _apart(64 * _T, 32 * _T),
        (3, 10): _apart(16 * _T, 8 * _T), (4, 12): _apart(64 * _T, 56 * _T),
        (5, 2): _in_a_row(0xC0003D0000000000, _T),
    },
    ("hash", 16): {
        (2, 6, 14): _apart(16 * _T, 8 * _T), (3, 7): _apart(64 * _T, 32 * _T),
        (3, 10): _apart(16 * _T, 8 * _T), (4, 12): _apart(64 * _T, 56 * _T),
        (5, 2): _in_a_row(0xC008000000000000, 512 * _T),
    },
}  # fmt: skip
for _page in (12, 16):
    _REGIONS["radix", _page] = {
        (4, 7): _together(
            ("vmalloc", 0xC008000000000000, 512 * _T), ("vmemmap", 0xC00A000000000000, 512 * _T),
            ("io", 0xC00C000000000000, 1024 * _T),
        ),
        (5, 2): _in_a_row(0xC008000000000000, 512 * _T),
    }  # fmt: skip


def _newest(part: Mapping[Release, Any], release: Release) -> Any:
    return part[max(since for since in part if since <= release)]


def _eras() -> Iterator[Era]:
    for (mmu, page_shift), geometry in _GEOMETRY.items():
        start = min(geometry)
        entries, regions = _entries(page_shift), _REGIONS[mmu, page_shift]
        if mmu == "radix":
            entries = {release: replace(e, huge=None, pfn_4k=0) for release, e in entries.items()}
        changes = sorted({c for part in (geometry, entries, regions) for c in part if c >= start})
        parts: list[tuple[Release, list[Any]]] = []
        for since in changes:
            newest = [_newest(part, since) for part in (geometry, entries, regions)]
            if not parts or parts[-1][1] != newest:
                parts.append((since, newest))
        ends = [since for since, _ in parts[1:]]
        for (since, newest), until in zip(parts, [*ends, None], strict=True):
            yield Era(mmu, page_shift, since, until, *newest)


ERAS: tuple[Era, ...] = tuple(_eras())
