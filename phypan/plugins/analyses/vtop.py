"""What does an effective address translate to, and through which page table entries?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan import Address, Analysis, Bytes, Dump, Hex, Translation, hookimpl


@dataclass(frozen=True)
class VtopRow:
    """One entry on the way from an effective to a physical address; the last has the result.

    virtual      the effective address
    level        of the entry, or what was used instead of page tables
    entry_at     physical address of the entry
    entry        its value
    physical     the physical address; empty where there is none
    page_size    of the page; where nothing is mapped, of what the entry covers
    protection   what the mapping allows
    state        what the dump has of the page; where nothing is mapped, why
    """

    virtual: Address
    level: str
    entry_at: Address | None = None
    entry: Address | None = None
    physical: Address | None = None
    page_size: Bytes | None = None
    protection: str | None = None
    state: str | None = None


def vtop(
    dump: Dump,
    addresses: tuple[Address, ...],
    *,
    space: str = "kernel",
    pgd: Hex | None = None,
    pid: int | None = None,
) -> Iterator[VtopRow]:
    """Translate virtual addresses, and show the page table entries on the way.

    space  by what to translate: "kernel", "linear", "hpt" (needs an image of the hashed page
           table), "vrma" (needs the HPTE save area)
    pgd    translate user addresses of the process whose top page table is there (mm->pgd)
    pid    translate user addresses of this process
    """
    chosen = dump.spaces.named(space, pid=pid, pgd=pgd)
    for address in addresses:
        yield from _rows(chosen.translate(address))


def _rows(found: Translation) -> Iterator[VtopRow]:
    for step in found.steps[:-1]:
        yield VtopRow(found.address, step.level, step.address, step.value)
    last = found.steps[-1] if found.steps else None
    yield VtopRow(
        virtual=found.address,
        level=last.level if last else found.how or "-",
        entry_at=last.address if last else None,
        entry=last.value if last else None,
        physical=found.physical,
        page_size=found.page_size or None,
        protection=None if found.protection is None else str(found.protection),
        state=found.fault or (found.state.value if found.state else None),
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """Effective to physical addresses."""
    return [Analysis(vtop, VtopRow)]
