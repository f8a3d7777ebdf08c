"""vmemmap of hashed kernels: struct page's map is in no page table, but in a list.

Linux arch/powerpc/mm/init_64.c, vmemmap_list: struct vmemmap_backing {list, phys, virt_addr}. Each
piece covers a page of the size that mmu_vmemmap_psize says (mmu_psize_defs[].shift).
"""

from __future__ import annotations

from collections.abc import Callable

from phypan.errors import PhypanError, Problem
from phypan.formats._records import ByteOrder
from phypan.formats.vmcoreinfo import Vmcoreinfo

MAX_PIECES = 1 << 22  # 2^22 pieces of 64K are the map of 300 TiB of memory
Read = Callable[[int, int], bytes]  # (effective address in the linear map, size) -> bytes
WHERE = "vmemmap_list"


def read_list(
    read: Read, order: ByteOrder, info: Vmcoreinfo, page_shift: int
) -> tuple[list[tuple[int, int]], int, list[Problem]]:
    """((effective, physical) address of each piece, sorted; shift of their size; problems).

    Empty where VMCOREINFO does not name the list, as before 3.13, and on radix.
    """
    head = info.symbol("vmemmap_list")
    if head is None:
        return [], page_shift, []

    def word(address: int, size: int = 8) -> int:
        return int.from_bytes(read(address, size), order)

    try:
        shift = _shift(word, info, page_shift)
        pieces, problems = _follow(word, head, info)
    except PhypanError as error:
        return [], page_shift, [Problem(str(error), WHERE, "vmemmap cannot be translated")]
    return sorted(pieces), shift, problems


def _shift(word: Callable[..., int], info: Vmcoreinfo, page_shift: int) -> int:
    index, defs = info.symbol("mmu_vmemmap_psize"), info.symbol("mmu_psize_defs")
    size, offset = info.size("mmu_psize_def"), info.offset("mmu_psize_def.shift")
    if index is None or defs is None or size is None or offset is None:
        return page_shift
    found = word(defs + word(index, 4) * size + offset, 4)
    return found if 12 <= found <= 34 else page_shift


def _follow(
    word: Callable[..., int], head: int, info: Vmcoreinfo
) -> tuple[list[tuple[int, int]], list[Problem]]:
    places = [info.offset(f"vmemmap_backing.{name}") for name in ("list", "phys", "virt_addr")]
    to_next, to_physical, to_virtual = (
        default if place is None else place
        for place, default in zip(places, (0, 8, 16), strict=True)
    )
    pieces: dict[int, int] = {}
    seen: set[int] = set()
    at = word(head)
    while at and len(seen) < MAX_PIECES:
        if at in seen:
            problem = Problem(f"it leads back to {at:#x}", WHERE, "what is behind that is lost")
            return list(pieces.items()), [problem]
        seen.add(at)
        try:
            pieces.setdefault(word(at + to_virtual), word(at + to_physical))
            at = word(at + to_next)
        except PhypanError as error:
            problem = Problem(str(error), WHERE, "what is behind that is lost")
            return list(pieces.items()), [problem]
    return list(pieces.items()), []
