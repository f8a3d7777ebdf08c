"""The entries that firmware saved of the virtualised real mode area (VRMA)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan import Address, Analysis, Bytes, Dump, Hex, hookimpl
from phypan.formats.hpte import SLOTS, Hpte
from phypan.formats.kernel_dump import SectionType


@dataclass(frozen=True)
class HptesaveRow:
    """One saved entry, or a stretch that no entry maps.

    offset     in the VRMA: the partition's address in real mode
    real       real address in the entry; what kind of address firmware saves is written nowhere
    size       bytes of the page, or of the stretch
    index      of the entry in the page table (PTEX), and its group and slot
    first, second  its doublewords
    finding    what is wrong
    """

    offset: Address | None
    size: Bytes | None
    real: Address | None = None
    index: Hex | None = None
    group: Hex | None = None
    slot: int | None = None
    first: Address | None = None
    second: Address | None = None
    bolted: bool | None = None
    wimg: str | None = None
    finding: str | None = None


def hptesave(dump: Dump) -> Iterator[HptesaveRow]:
    """Entries of the VRMA that firmware saved, sorted, checked against the size of boot memory."""
    end, needed = 0, _boot_memory(dump)
    for offset, entry in dump.spaces.vrma.placed:
        if offset is not None and offset > end:
            yield HptesaveRow(end, offset - end, finding="no entry maps it")
        finding = _finding(offset, entry, end, needed)
        yield _row(offset, entry, finding)
        if offset is not None:
            end = max(end, offset + (1 << (entry.actual_shift or 12)))
    if needed is not None and end < needed:
        yield HptesaveRow(end, needed - end, finding="boot memory that no entry maps")


def _boot_memory(dump: Dump) -> int | None:
    """Bytes of boot memory: what the copies of memory in real mode hold, from 0 on."""
    if dump.kernel_dump is None:
        return None
    end = 0
    for section in sorted(
        dump.kernel_dump.of_type(SectionType.REAL_MODE_REGION), key=lambda part: part.source
    ):
        if section.source > end:
            break
        end = max(end, section.source + section.length)
    return end or None


def _finding(offset: int | None, entry: Hpte, end: int, needed: int | None) -> str | None:
    if offset is None:
        if entry.valid and entry.vrma:
            return "its page size is encoded in no known way"
        return "not of the VRMA" if entry.valid else "not valid"
    wrong = (
        (offset < end, "the offset is mapped twice"),
        (offset != entry.real, "its real address is not its offset"),
        (needed is not None and offset >= needed, "behind boot memory"),
    )
    return next((what for true, what in wrong if true), None)


def _row(offset: int | None, entry: Hpte, finding: str | None) -> HptesaveRow:
    return HptesaveRow(
        offset=offset,
        size=None if entry.actual_shift is None else 1 << entry.actual_shift,
        real=entry.real,
        index=entry.index,
        group=entry.index // SLOTS,
        slot=entry.index % SLOTS,
        first=entry.first,
        second=entry.second,
        bolted=entry.bolted,
        wimg=entry.wimg,
        finding=finding,
    )


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The HPTE save area."""
    return [Analysis(hptesave, HptesaveRow, frozenset({"hptesave"}))]
