"""Which virtual addresses map a physical one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan import Address, Analysis, Bytes, Dump, hookimpl


@dataclass(frozen=True)
class PtovRow:
    """One virtual address of a physical one.

    physical    the physical address
    virtual     the effective address; empty where nothing maps it
    owner       "kernel", "VRMA", or the context of a process (mm->context.id)
    by          what maps it
    page_size   of the mapping
    protection  what it allows
    """

    physical: Address
    virtual: Address | None = None
    owner: str | None = None
    by: str = "nothing maps it"
    page_size: Bytes | None = None
    protection: str | None = None


def ptov(dump: Dump, addresses: tuple[Address, ...]) -> Iterator[PtovRow]:
    """List the virtual addresses of physical ones: the kernel's; with --hpt those of processes."""
    found = sorted(dump.spaces.reverse(addresses), key=lambda one: (one.context or 0, one.address))
    for physical in addresses:
        rows = [
            PtovRow(
                physical=physical,
                virtual=one.address,
                owner=_owner(one.context),
                by=one.how,
                page_size=one.page_size,
                protection=None if one.protection is None else str(one.protection),
            )
            for one in found
            if one.physical == physical
        ]
        yield from rows or [PtovRow(physical)]


def _owner(context: int | None) -> str:
    if context is None:
        return "VRMA"
    return f"context {context:#x}" if context else "kernel"


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Physical to effective addresses."""
    return [Analysis(ptov, PtovRow)]
