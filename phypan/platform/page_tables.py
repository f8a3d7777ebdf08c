"""Page tables of a guest, made: Linux's own of every era, radix, and the hashed page table.

Written from the layout of the tables, not from phypan's reader of them: what both have in common
is the specification. Sources: the rows of Linux arch/powerpc/include/asm/{pgtable-ppc64*,
pgtable-hash64*,mmu-hash64,book3s/64/*}.h; Power ISA 3.1, Book III, chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from phypan.errors import BadRecord

PAGE_OFFSET = 0xC000000000000000
Release = tuple[int, ...]  # (4, 7), (2, 6, 26)
Mmu = Literal["hash", "radix"]


class Ram(Protocol):
    """Physical memory of the guest."""

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at physical `address`."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at physical `address`."""
        ...


Allocate = Callable[[int], int]  # bytes, a power of two -> physical address, aligned to them, zeros


@dataclass(frozen=True)
class Page:
    """What a page may be used for, and how large it is: 1 << `shift` bytes."""

    shift: int
    write: bool = True
    execute: bool = False
    user: bool = False
    uncached: bool = False


def index_bits(mmu: Mmu, page_shift: int, release: Release) -> tuple[int, int, int, int]:
    """Index bits of PGD, PUD, PMD and PTE tables; 0: there is no such table."""
    if mmu == "radix":
        return (13, 9, 9, 9 if page_shift == 12 else 5)
    if page_shift == 12:
        return (9, 7, 7, 9) if release < (3, 7) else (9, 9, 7, 9)
    for until, bits in (
        ((3, 7), (4, 0, 12, 12)), ((3, 10), (6, 0, 12, 12)), ((4, 6), (12, 0, 10, 8)),
        ((4, 12), (12, 5, 5, 8)), ((4, 17), (8, 7, 10, 8)),
    ):  # fmt: skip
        if release < until:
            return bits
    return (8, 10, 10, 8)


class LinuxTables:
    """The tables of an address space, as Linux of `release` makes them.

    root     physical address of the top table (swapper_pg_dir, or mm->pgd)
    order    byte order of the guest
    """

    def __init__(
        self,
        ram: Ram,
        allocate: Allocate,
        *,
        mmu: Mmu,
        page_shift: int,
        release: Release,
        order: Literal["big", "little"],
    ) -> None:
        self._ram, self._allocate = ram, allocate
        self.mmu, self.page_shift, self.release = mmu, page_shift, release
        self.order: Literal["big", "little"] = "big" if release >= (4, 7) else order
        names = ("PGD", "PUD", "PMD", "PTE")
        bits = index_bits(mmu, page_shift, release)
        shift = page_shift + sum(bits)
        self.levels: list[tuple[str, int, int]] = []  # (name, shift, index bits)
        for name, width in zip(names, bits, strict=True):
            shift -= width
            if width:
                self.levels.append((name, shift, width))
        self.root = allocate(8 << self.levels[0][2])

    # --- entries ---

    def leaf(self, physical: int, page: Page) -> int:
        """A leaf entry: a PTE, or one of an upper level for a huge page."""
        release, small = self.release, self.page_shift == 12
        if release >= (4, 6):
            entry = 3 << 62 | physical | 0x180  # present, PTE, accessed, dirty
            entry |= (0x1 if page.execute else 0) | (0x2 if page.write else 0)
            entry |= 0x20 if page.uncached else 0
            if release >= (4, 7):
                return entry | 0x4 | (0 if page.user else 0x8)
            return entry | (0x8 if page.user else 0)
        right = (
            (18 if release >= (4, 5) else 17) if small else (30 if release >= (2, 6, 21) else 32)
        )
        entry = physical >> self.page_shift << right | 0x180
        entry |= (0x200 if page.write else 0) | (0x20 if page.uncached else 0)
        if release >= (4, 5):
            return entry | 0x3 | (0x4 if page.user else 0) | (0x8 if page.execute else 0)
        return entry | 0x1 | (0x2 if page.user else 0) | (0x4 if page.execute else 0)

    def pointer(self, table: int, bits: int) -> int:
        """An upper entry that leads to a table with so many index bits."""
        if self.release < (4, 6):
            return PAGE_OFFSET + table
        if self.mmu == "radix":
            return 1 << 63 | table | bits
        return table if self.release < (4, 7) and self.page_shift == 12 else 1 << 63 | table

    def directory(self, table: int, shift: int) -> int:
        """A hugepd: an upper entry that leads to a table of huge pages of 1 << `shift`."""
        if self.release < (3, 10):
            return (PAGE_OFFSET + table) & ~(1 << 63) | shift
        # MMU_PAGE_16M and MMU_PAGE_16G: asm/mmu.h
        for since, indices in (((4, 10), (10, 14)), ((4, 7), (9, 13)), ((3, 10), (8, 12))):
            if self.release >= since:
                index = indices[{24: 0, 34: 1}[shift]]
                break
        if self.release < (4, 6):
            return PAGE_OFFSET + table | index << 2
        return table | index << 2 | (1 << 63 if self.release >= (5, 0) else 0)

    # --- tables ---

    def map(self, effective: int, physical: int, page: Page) -> None:
        """Map one page. Both addresses must be multiples of its size."""
        if (effective | physical) % (1 << page.shift):
            raise BadRecord(f"{effective:#x} to {physical:#x}: not a multiple of the page size")
        table = self.root
        for depth, (_, shift, bits) in enumerate(self.levels):
            at = table + 8 * (effective >> shift & (1 << bits) - 1)
            below = self.levels[depth + 1][1] if depth + 1 < len(self.levels) else 0
            if shift == page.shift and (depth + 1 == len(self.levels) or self._leaves_above()):
                self._put(at, self.leaf(physical, page))
                return
            if below < page.shift:
                if self.mmu == "radix" or (self._leaves_above() and self.page_shift == 16):
                    break
                self._put_huge(at, shift, effective, physical, page)
                return
            if not (entry := self._get(at)):
                width = self.levels[depth + 1][2]
                entry = self.pointer(self._allocate(max(8 << width, 4096)), width)
                self._put(at, entry)
            table = self._table(entry)
        raise BadRecord(f"no page of 1 << {page.shift} bytes in such tables")

    def _leaves_above(self) -> bool:
        """Whether upper levels may have leaves: else huge pages are below a hugepd."""
        if self.mmu == "radix":
            return True
        return self.page_shift == 16 and self.release >= (3, 10)

    def _put_huge(self, at: int, shift: int, effective: int, physical: int, page: Page) -> None:
        if not (entry := self._get(at)):
            count = max(1, 1 << (shift - page.shift)) if shift > page.shift else 1
            entry = self.directory(self._allocate(max(8 * count, 4096)), page.shift)
            self._put(at, entry)
        index = (effective & (1 << shift) - 1) >> page.shift
        self._put(self._table(entry) + 8 * index, self.leaf(physical, page))

    def _table(self, entry: int) -> int:
        """The table that an upper entry leads to: all are in the first 2^40 bytes, on 4K pages."""
        return entry & 0xFFFFFFF000

    def _get(self, at: int) -> int:
        return int.from_bytes(self._ram.read(at, 8), self.order)

    def _put(self, at: int, entry: int) -> None:
        self._ram.write(at, entry.to_bytes(8, self.order))


def process_table_entry(root: int, bits: int, size: int = 52) -> bytes:
    """A process table entry for a radix tree: ISA 3.1, RTS, RPDB, RPDS."""
    rts = size - 31
    word = (rts & 0x18) << 58 | (rts & 7) << 5 | root | bits
    return word.to_bytes(8, "big") + bytes(8)


# --- the hashed page table -----------------------------------------------------------------------

# (base page shift, actual page shift) -> LP; POWER7 and later
LP = {(12, 12): 0, (12, 16): 7, (12, 24): 0x38, (16, 16): 1, (16, 24): 8, (24, 24): 0, (34, 34): 3}


@dataclass(frozen=True)
class HashedPage:
    """A page to be entered: of virtual segment `vsid`, `offset` bytes into it."""

    vsid: int
    segment_shift: int  # 28 or 40
    offset: int
    base_shift: int
    actual_shift: int
    real: int
    pp: int = 0
    execute: bool = True
    bolted: bool = False
    wimg: int = 0x2  # memory that is coherent


class HashedTable:
    """A hashed page table of 1 << `shift` bytes. v3: entries in the form of ISA 3.0."""

    def __init__(self, shift: int, *, v3: bool = False) -> None:
        self.data, self.groups, self.v3 = bytearray(1 << shift), 1 << (shift - 7), v3

    def doublewords(self, page: HashedPage, *, secondary: bool) -> tuple[int, int]:
        """Both doublewords of the entry for a page."""
        virtual = page.vsid << page.segment_shift | page.offset
        dropped = max(0, page.base_shift - 23)
        large = page.segment_shift == 40
        first = virtual >> 23 >> dropped << dropped << 7
        first |= 0x1 | (0x2 if secondary else 0) | (0x10 if page.bolted else 0)
        second = page.real | 0x180 | page.wimg << 3 | page.pp & 3 | (page.pp & 4) << 61
        second |= 0 if page.execute else 0x4
        if (page.base_shift, page.actual_shift) != (12, 12):
            first |= 0x4
            second |= LP[page.base_shift, page.actual_shift] << 12
        if self.v3:
            return first, second | (1 << 58 if large else 0)
        return first | (1 << 62 if large else 0), second

    def enter(self, page: HashedPage, *, secondary: bool = False) -> int | None:
        """Enter a page into its group; into the other one if that is full. Its index, or None."""
        hashed = page.vsid ^ page.offset >> page.base_shift
        hashed ^= page.vsid << 25 if page.segment_shift == 40 else 0
        for other in (secondary, not secondary):
            group = (~hashed if other else hashed) % (1 << 39) % self.groups
            for slot in range(8):
                at = 128 * group + 16 * slot
                first = int.from_bytes(self.data[at : at + 8], "big")
                if not first & 1:
                    pair = self.doublewords(page, secondary=other)
                    self.data[at : at + 16] = b"".join(word.to_bytes(8, "big") for word in pair)
                    return at // 16
        return None


def kernel_vsid(release: Release, page_shift: int, effective: int, segment_shift: int) -> int:
    """The virtual segment of a kernel address, as Linux of `release` makes it."""
    small = segment_shift == 28
    if release < (3, 9):
        proto = effective >> segment_shift
        if release < (3, 7):
            return proto * (200730139 if small else 12538073) % ((1 << (36 if small else 24)) - 1)
        bits = 38 if small else 26
        return (proto | 1 << (bits - 1)) * 12538073 % ((1 << bits) - 1)
    nibble = effective >> 60
    if release < (4, 12):
        return _scattered(0x7FFFC + nibble - 0xC, 18, 37, effective, segment_shift)
    if release < (5, 2):
        return _scattered(nibble - 0xB, 21, 40, effective, segment_shift)
    start, region = (0xC008 << 48, 49) if page_shift == 16 else (0xC0003D << 40, 40)
    if effective >= start:
        # Behind those of the linear map: four of 2^49 bytes, or one of 2^46.
        context = (5 if page_shift == 16 else 2) + ((effective - start) >> region)
    else:
        context = 1 + ((effective & (1 << 60) - 1) >> (49 if page_shift == 16 else 46))
    return _scattered(context, 21, 40, effective, segment_shift)


def user_vsid(release: Release, context: int, effective: int, segment_shift: int) -> int:
    """The virtual segment of an address of the process with this context (mm->context.id)."""
    small = segment_shift == 28
    if release < (3, 7):
        proto = context << (16 if small else 4) | effective >> segment_shift
        return proto * (200730139 if small else 12538073) % ((1 << (36 if small else 24)) - 1)
    if release < (4, 12):
        bits = 38 if release < (3, 9) else 37
        return _scattered(context, 18, bits, effective, segment_shift)
    return _scattered(context, 21, 40, effective, segment_shift)


def _scattered(context: int, width: int, bits: int, effective: int, segment_shift: int) -> int:
    """`width` and `bits` are those of 256 MiB segments; of 1 TiB ones they are 12 less."""
    if segment_shift == 40:
        width, bits = width - 12, bits - 12
    proto = context << width | (effective >> segment_shift) % (1 << width)
    return proto * 12538073 % ((1 << bits) - 1)
