"""Schemes: how Linux made virtual segments, kernel after kernel. Data for kernels/segments.py.

Sources: Linux arch/powerpc/include/asm/{mmu-hash64.h,book3s/64/mmu-hash.h} and mmu_context.h of
2.6.24 to 5.17: get_kernel_vsid(), get_vsid(), vsid_scramble(), VSID_MULTIPLIER_*, CONTEXT_BITS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan.kernels import segments
from phypan.spaces.eras import Release

_MULTIPLIER = 12538073  # a prime
_OLD_MULTIPLIER = 200730139


@dataclass(frozen=True)
class Scheme:
    """How VSIDs are made, from release `since` up to before `until`.

    page_shift  of the kernels in question; None: of all
    small, large  (VSID bits, multiplier, bits of a segment's number): of 256 MiB, of 1 TiB
    kernel      how kernel addresses are told from contexts (kernels/segments.py)
    """

    name: str
    since: Release
    until: Release | None
    page_shift: int | None
    small: tuple[int, int, int]
    large: tuple[int, int, int]
    kernel: int
    first_context: int = 0
    linear_contexts: int = 0
    virtual_start: int = 0
    linear_shift: int = 0
    region_shift: int = 0

    @property
    def words(self) -> list[int]:
        """What kernels/segments.py takes."""
        found = [0] * segments.SCHEME
        for row, shift, (bits, multiplier, esid_bits) in (
            (0, 28, self.small), (segments.SEGMENT_WORDS, 40, self.large)
        ):  # fmt: skip
            inverse = pow(multiplier, -1, (1 << bits) - 1)
            words = shift, bits, multiplier, inverse, esid_bits
            found[row : row + segments.SEGMENT_WORDS] = words
        found[segments.KERNEL] = self.kernel
        found[segments.FIRST_CONTEXT] = self.first_context
        found[segments.LINEAR_CONTEXTS] = self.linear_contexts
        found[segments.VIRTUAL_START] = self.virtual_start
        found[segments.LINEAR_SHIFT] = self.linear_shift
        found[segments.REGION_SHIFT] = self.region_shift
        found[segments.REGIONS] = 3  # vmalloc, IO, vmemmap
        return found

    def vsid(self, address: int, segment_shift: int, context: int = 0) -> int | None:
        """The VSID of an effective address; None if it has none. `context` is mm->context.id."""
        row = segments.SEGMENT_WORDS if segment_shift == 40 else 0
        found = segments.vsid(self.words, row, context, address)
        return None if found == segments.NO_VSID else found


# Bits of a segment's number since 4.12; VSIDs for 68-bit virtual addresses, and for 65-bit ones on
# processors that have no more.
_SMALL_ESID, _LARGE_ESID = 21, 9
_VIRTUAL = {"": 40, ", 65-bit virtual addresses": 37}


def _wide() -> Iterator[Scheme]:
    """4.12 to 5.1: a context for each top nibble."""
    for name, bits in _VIRTUAL.items():
        yield Scheme(
            f"4.12 to 5.1{name}", (4, 12), (5, 2), None,
            (bits, _MULTIPLIER, _SMALL_ESID), (bits - 12, _MULTIPLIER, _LARGE_ESID),
            segments.NIBBLE, first_context=1,
        )  # fmt: skip


def _regions(
    page_shift: int, start: int, linear: tuple[int, int], region_shift: int
) -> Iterator[Scheme]:
    """Since 5.2: all kernel addresses under 0xc, contexts by region.

    linear  (how many contexts the linear map has, log2 of the bytes of each): MAX_KERNEL_CTX_CNT,
            MAX_EA_BITS_PER_CONTEXT
    """
    contexts, linear_shift = linear
    for name, bits in _VIRTUAL.items():
        yield Scheme(
            f"since 5.2, {1 << page_shift >> 10}K pages{name}", (5, 2), None, page_shift,
            (bits, _MULTIPLIER, _SMALL_ESID), (bits - 12, _MULTIPLIER, _LARGE_ESID),
            segments.REGION, first_context=1, linear_contexts=contexts,
            virtual_start=start, linear_shift=linear_shift, region_shift=region_shift,
        )  # fmt: skip


SCHEMES: tuple[Scheme, ...] = (
    Scheme(
        "2.6.24 to 3.6", (2, 6, 24), (3, 7), None,
        (36, _OLD_MULTIPLIER, 16), (24, _MULTIPLIER, 4), segments.WHOLE,
    ),
    Scheme(
        "3.7 to 3.8", (3, 7), (3, 9), None,
        (38, _MULTIPLIER, 18), (26, _MULTIPLIER, 6), segments.WHOLE_AND_TOP,
    ),
    Scheme(
        "3.9 to 4.11", (3, 9), (4, 12), None,
        (37, _MULTIPLIER, 18), (25, _MULTIPLIER, 6), segments.NIBBLE, first_context=0x7FFFC,
    ),
    *_wide(),
    *_regions(16, 0xC008000000000000, (4, 49), 49),
    *_regions(12, 0xC0003D0000000000, (1, 46), 40),
)  # fmt: skip
