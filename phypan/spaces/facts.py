"""Facts: an era, or what the hardware goes by, as kernels/tables.py wants to be told."""

from __future__ import annotations

from phypan.kernels import tables
from phypan.spaces.eras import PAGE_OFFSET, Era

_WORD = (1 << 64) - 1


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
