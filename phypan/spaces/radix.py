"""Radix trees as the hardware walks them: from a process table, or from the root of one tree.

Power ISA 3.1, Book III, "Process Table Entry", "Radix Tree Translation"; masks as in QEMU
target/ppc/mmu-book3s-v3.h. Everything is big-endian. Effective addresses have their quadrant in
the top two bits: 0 is the process's own tree, 3 that of process 0, the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

from phypan.errors import BadRecord
from phypan.memory import Memory
from phypan.spaces.eras import radix_facts
from phypan.spaces.linux import TreeSpace
from phypan.spaces.resident import Resident
from phypan.spaces.space import Protection

PROCESS_ENTRY = 16  # bytes
ROOT_MASK = 0x0FFFFFFFFFFFFF00  # RPDB
SIZE_MASK = 0x1F  # RPDS: index bits of the top table
PRIVILEGED, READ, WRITE, EXECUTE = 0x8, 0x4, 0x2, 0x1  # EAA
ATTRIBUTES, UNCACHED = 0x30, 0x20  # ATT: 0x20 and 0x30 are not cached
QUADRANT_3 = 0xC000000000000000
LEVELS = ("PGD", "PUD", "PMD", "PTE")  # Linux's names


@dataclass(frozen=True)
class Tree:
    """A tree: physical address of its top table, index bits of that, bits that it translates."""

    root: int
    bits: int
    size: int


def tree(doubleword: int) -> Tree:
    """The tree that the first doubleword of a process or partition table entry leads to."""
    size = ((doubleword >> 58 & 0x18) | (doubleword >> 5 & 7)) + 31
    found = Tree(doubleword & ROOT_MASK, doubleword & SIZE_MASK, size)
    if not 5 <= found.bits <= found.size - 12 or found.root == 0:
        raise BadRecord(
            f"{doubleword:#018x} leads to no radix tree", where="process table", hint=None
        )
    return found


def process_tree(memory: Memory, process_table: int, pid: int) -> Tree:
    """The tree of hardware process id `pid`; `process_table` is a physical address (PRTB)."""
    entry = memory.read(process_table + PROCESS_ENTRY * pid, 8)
    return tree(int.from_bytes(entry, "big"))


def protection(entry: int) -> Protection:
    """What a leaf allows."""
    return Protection(
        read=bool(entry & (READ | WRITE)),
        write=bool(entry & WRITE),
        execute=bool(entry & EXECUTE),
        user=not entry & PRIVILEGED,
        inhibited=bool(entry & UNCACHED),
    )


def radix_space(resident: Resident, found: Tree, *, name: str, top: int = 0) -> TreeSpace:
    """The space of a tree. `top` is QUADRANT_3 for a kernel's."""
    facts = radix_facts(found.root, found.size, found.bits, top=top)
    return TreeSpace(name, resident, facts, LEVELS, protection)
