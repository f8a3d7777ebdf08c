"""What is mapped where in the kernel's address space, and may it be written and executed?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from phypan import Address, Analysis, Bytes, Dump, Hex, MappedRange, hookimpl

WRITE_AND_EXECUTE = "writable and executable"


@dataclass(frozen=True)
class MapsRow:
    """A range of addresses that is mapped alike.

    first, last  effective addresses
    size         bytes
    region       of the address space
    page_size    of the mapping
    protection   what it allows; empty where only a hashed page table would tell
    physical     physical address of the first byte, with --physical
    finding      what is wrong with it
    """

    first: Address
    last: Address
    size: Bytes
    region: str
    page_size: Bytes
    protection: str | None = None
    physical: Address | None = None
    finding: str | None = None


def maps(
    dump: Dump,
    *,
    space: str = "kernel",
    pgd: Hex | None = None,
    pid: int | None = None,
    physical: bool = False,
) -> Iterator[MapsRow]:
    """Map of an address space: ranges, protection, what is both writable and executable.

    space     whose: "kernel", "linear", "hpt" (needs an image of the hashed page table), "vrma"
    pgd       of the process whose top page table is there (mm->pgd)
    pid       of this process
    physical  show where the ranges are in physical memory, split where that is not one range
    """
    chosen = dump.spaces.named(space, pid=pid, pgd=pgd)
    regions = dump.spaces.era.regions if dump.spaces.era else ()
    found = chosen.mappings(alike=not physical)
    for one in found if physical else _alike(found):
        name = next((region.name for region in regions if one.first in region), chosen.name)
        allowed = one.protection
        both = allowed is not None and allowed.write and allowed.execute
        yield MapsRow(
            first=one.first,
            last=one.end - 1,
            size=one.size,
            region=name,
            page_size=one.page_size,
            protection=None if allowed is None else str(allowed),
            physical=one.physical if physical else None,
            finding=one.fault or (WRITE_AND_EXECUTE if both else None),
        )


def _alike(found: Iterable[MappedRange]) -> Iterator[MappedRange]:
    """Neighbours made one wherever they are in physical memory."""
    last: MappedRange | None = None
    for one in found:
        if last is not None and _kind(last) == _kind(one) and last.end == one.first:
            last = replace(last, size=last.size + one.size)
            continue
        if last is not None:
            yield last
        last = one
    if last is not None:
        yield last


def _kind(one: MappedRange) -> tuple[object, ...]:
    return one.page_size, one.protection, one.fault


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Maps of address spaces."""
    return [Analysis(maps, MapsRow)]
