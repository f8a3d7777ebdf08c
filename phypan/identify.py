"""Which kernel is in this memory: VMCOREINFO, byte order and page size, from the memory itself."""

from __future__ import annotations

from collections.abc import Iterable

from phypan.errors import Problem
from phypan.formats import pt_regs, vmcoreinfo
from phypan.formats._records import ByteOrder
from phypan.formats.pt_regs import PtRegs
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.memory import Memory

DEFAULT_PAGE_SIZE = 65536
_SEARCHED = 4 << 30  # bytes from physical address 0: Linux has its image and early pages there
_MSR_IR_DR = 0x30  # the MMU was on: such a CPU ran the kernel or a process, not firmware


def find_vmcoreinfo(memory: Memory) -> tuple[Vmcoreinfo | None, ByteOrder | None]:
    """(the VMCOREINFO in `memory`, the byte order of the note it stands in, if it does).

    Of several the one of the latest crash counts before others, and the longest before shorter
    ones; of Linux's two copies the one in a note.
    """
    best: Vmcoreinfo | None = None
    rank = (-1, -1, False)
    order: ByteOrder | None = None
    for address in memory.find(vmcoreinfo.START, 0, min(memory.end, _SEARCHED)):
        info = vmcoreinfo.read(_from(memory, address))
        if not vmcoreinfo.plausible(info):
            continue
        told = vmcoreinfo.note_order(_before(memory, address))
        if (new := (info.crash_time or 0, len(info.text), told is not None)) > rank:
            best, rank, order = info, new, told
    return best, order


def _from(memory: Memory, address: int) -> memoryview:
    """What there is from physical `address` on, as far as a VMCOREINFO can reach."""
    return memory.view(address, min(vmcoreinfo.MAX_SIZE, memory.at(address).size))


def _before(memory: Memory, address: int) -> bytes:
    start = max(0, address - vmcoreinfo.NOTE_HEADER)
    return memory.read(start, address - start) if memory.at(start).end >= address else b""


def byte_order(regs: Iterable[PtRegs]) -> ByteOrder | None:
    """The byte order that CPUs in kernel mode ran in, by their MSR; None if they do not agree."""
    orders: set[ByteOrder] = {
        "little" if r["msr"] & pt_regs.MSR_LE else "big"
        for r in regs
        if r["msr"] & _MSR_IR_DR and not r["msr"] & pt_regs.MSR_PR
    }
    return orders.pop() if len(orders) == 1 else None


def page_size(info: Vmcoreinfo | None) -> tuple[int, Problem | None]:
    """(bytes in a page of the crashed kernel, what to say when that is a guess)."""
    if info is not None and info.page_size:
        return info.page_size, None
    meaning = f"{DEFAULT_PAGE_SIZE} is assumed, which most kernels for POWER use"
    return DEFAULT_PAGE_SIZE, Problem("the page size is unknown", "VMCOREINFO", meaning)
