"""Hashed page table entries: two doublewords, decoded.

Power ISA, Book III, "Page Table Entry", versions 2.07 and 3.0; masks as in QEMU
target/ppc/mmu-hash64.h and Linux arch/powerpc/include/asm/book3s/64/mmu-hash.h. In memory both
doublewords are big-endian. The hypervisor calls of PAPR keep the old form on every processor; only
bare-metal POWER9 and later use the form of ISA 3.0, which moves B from the first to the second.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENTRY = struct.Struct(">QQ")  # 16 bytes
SLOTS = 8  # entries in a group (PTEG)
GROUP_BYTES = SLOTS * ENTRY.size

# first doubleword
B = 0xC000000000000000  # segment size: 0 is 256 MiB, 1 is 1 TiB
B_SHIFT = 62
AVPN = 0x3FFFFFFFFFFFFF80  # abbreviated virtual page number: virtual address >> 23, at bit 7
AVPN_SHIFT = 7
SOFTWARE_BOLTED = 0x10
SOFTWARE_LOCK = 0x08
LARGE = 0x04
SECONDARY = 0x02
VALID = 0x01
# second doubleword
PP0 = 0x8000000000000000
KEY_HIGH = 0x3000000000000000
RPN = 0x0FFFFFFFFFFFF000  # real page number; its low bits hold LP when LARGE is set
LP = 0x00000000000FF000
KEY_LOW = 0x0E00
REFERENCED = 0x100
CHANGED = 0x080
WIMG = 0x078
NO_EXECUTE = 0x004
PP = 0x003
# ISA 3.0
V3_FIRST = 0x000FFFFFFFFFFFFF
V3_B_SHIFT = 58
V3_RPN = 0x01FFFFFFFFFFF000

# The virtual segment of the virtualised real mode area (LoPAR: 1 TiB VSID 0x001ffffff).
VRMA_VSID = 0x1FFFFFF

# (base page shift, actual page shift) -> value of LP; POWER7 and later without a device tree.
# A partition's own truth is /cpus/*/ibm,segment-page-sizes.
PageSizes = Mapping[tuple[int, int], int]
POWER7_PAGE_SIZES: PageSizes = {
    (12, 12): 0, (12, 16): 0x7, (12, 24): 0x38,
    (16, 16): 0x1, (16, 24): 0x8,
    (24, 24): 0x0,
    (34, 34): 0x3,
}  # fmt: skip
SLB_L, SLB_LP = 0x100, 0x030
SLB_LLP_SHIFT: Mapping[int, int] = {0x000: 12, 0x110: 16, 0x100: 24, 0x120: 34}


@dataclass(frozen=True, slots=True)
class Hpte:
    """One entry, decoded. `real` is the real page's address, `pteg` and `slot` its place."""

    index: int
    first: int
    second: int
    base_shift: int | None  # None: the page size is encoded in no known way
    actual_shift: int | None

    @property
    def valid(self) -> bool:
        """Whether the hardware uses the entry."""
        return bool(self.first & VALID)

    @property
    def secondary(self) -> bool:
        """Whether it was entered under the secondary hash."""
        return bool(self.first & SECONDARY)

    @property
    def bolted(self) -> bool:
        """Whether Linux may never evict it."""
        return bool(self.first & SOFTWARE_BOLTED)

    @property
    def segment_shift(self) -> int:
        """28 for 256 MiB segments, 40 for 1 TiB segments."""
        return 40 if self.first >> B_SHIFT & 1 else 28

    @property
    def vrma(self) -> bool:
        """Whether it maps the virtualised real mode area."""
        return self.first >> B_SHIFT == 1 and self.vsid == VRMA_VSID

    @property
    def vsid(self) -> int:
        """Virtual segment identifier."""
        avpn = (self.first & AVPN) >> AVPN_SHIFT
        return avpn >> (self.segment_shift - 23)

    @property
    def real(self) -> int:
        """Real address of the page's first byte."""
        mask = (1 << (self.actual_shift or 12)) - 1
        return self.second & RPN & ~mask

    @property
    def protection(self) -> int:
        """pp with pp0 as its highest bit: 0 to 7."""
        return (self.second & PP) | (4 if self.second & PP0 else 0)

    @property
    def key(self) -> int:
        """Virtual page class key, 0 to 31."""
        return (self.second & KEY_HIGH) >> 57 | (self.second & KEY_LOW) >> 9

    @property
    def wimg(self) -> str:
        """Storage control bits that are set, of "WIMG"; normal memory is "M"."""
        bits = (self.second & WIMG) >> 3
        return "".join(letter for n, letter in enumerate("WIMG") if bits & 8 >> n)

    def virtual(self, groups: int) -> int:
        """Virtual address of the page's first byte (not effective: VSID and offset).

        `groups` is the number of groups in the table, a power of two. The bits below 23 are not
        stored: they follow from the group, as in Linux hpte_decode() (hash_native.c).
        """
        shift = self.base_shift or 12
        avpn = (self.first & AVPN) >> AVPN_SHIFT
        if shift > 23:
            avpn &= ~((1 << (shift - 23)) - 1)
        segment = self.segment_shift
        vsid = avpn >> (segment - 23)
        offset = (avpn << 23) & ((1 << segment) - 1)
        if shift < 23:
            group = self.index // SLOTS
            group = ~group if self.secondary else group
            scattered = vsid ^ (vsid << 25) if segment == 40 else vsid
            page = (scattered ^ group) & (groups - 1)  # low bits of the page number
            offset |= (page << shift) & ((1 << 23) - 1)
        return vsid << segment | offset


def decode(
    index: int,
    first: int,
    second: int,
    *,
    base_shift: int | None = None,
    page_sizes: PageSizes = POWER7_PAGE_SIZES,
) -> Hpte:
    """The entry at `index` with its page sizes, in the old form.

    The base page size is a property of the segment, not of the entry; without `base_shift` the
    smallest one that fits the encoding is taken, as Linux hpte_page_sizes() does.
    """
    if not first & LARGE:
        return Hpte(index, first, second, 12, 12)
    for (base, actual), penc in page_sizes.items():
        if (base, actual) == (12, 12) or (base_shift is not None and base != base_shift):
            continue
        if second & RPN & ((1 << actual) - 1) == penc << 12:
            return Hpte(index, first, second, base, actual)
    return Hpte(index, first, second, None, None)


def read(table: bytes | memoryview) -> Sequence[tuple[int, int]]:
    """(first, second) doubleword of each entry in stored order."""
    whole = len(table) // ENTRY.size * ENTRY.size
    return list(ENTRY.iter_unpack(memoryview(table)[:whole]))


def from_v3(first: int, second: int) -> tuple[int, int]:
    """An entry of ISA 3.0 in the old form."""
    b = second >> V3_B_SHIFT & 3
    return first & V3_FIRST | b << B_SHIFT, second & ~(3 << V3_B_SHIFT)


def to_v3(first: int, second: int) -> tuple[int, int]:
    """An old entry in the form of ISA 3.0."""
    b = first >> B_SHIFT
    return first & V3_FIRST, second & ~(3 << V3_B_SHIFT) | b << V3_B_SHIFT


def primary_hash(vsid: int, offset: int, segment_shift: int, base_shift: int) -> int:
    """The 39-bit primary hash of a page in a segment; the secondary one is its complement."""
    spread = vsid ^ (vsid << 25) if segment_shift == 40 else vsid
    return (spread ^ (offset & ((1 << segment_shift) - 1)) >> base_shift) & 0x7FFFFFFFFF
