"""The hashed page table: how full it is and of what, and which of its entries are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from phypan import Address, Analysis, Dump, HashTable, Hex, hookimpl

SIZES = {12: "4K", 16: "64K", 20: "1M", 24: "16M", 34: "16G"}


@dataclass(frozen=True)
class HptRow:
    """One number; or, in the section "audit", one entry that is wrong.

    count    how many there are
    percent  of all groups, or of all valid entries
    what     in words
    index    of the entry (PTEX)
    virtual  effective address of its page
    """

    section: str
    item: str
    count: int | None = None
    percent: float | None = None
    what: str | None = None
    index: Hex | None = None
    virtual: Address | None = None


def hpt(dump: Dump, *, findings: int = 100) -> Iterator[HptRow]:
    """Statistics and an audit of the hashed page table (needs an image of it: --hpt).

    findings  show so many wrong entries at the most
    """
    table, scheme = dump.spaces.hash_table, dump.spaces.scheme
    form = "entries of ISA 3.0" if table.v3 else "entries of ISA 2.07 and before"
    yield HptRow("table", "bytes", table.size, None, form)
    yield HptRow("table", "segments", None, None, f"as Linux {scheme.name}")
    yield from _statistics(dump, table)
    found = dump.spaces.audit()
    for finding in islice(found, findings):
        page = finding.page
        yield HptRow(
            "audit", finding.kind, None, None, finding.what, page.entry.index, page.address
        )
    rest = sum(1 for _ in found)
    if rest:
        yield HptRow("audit", "more", rest, None, "--findings shows them")


def _statistics(dump: Dump, table: HashTable) -> Iterator[HptRow]:
    found = table.statistics(dump.spaces.scheme)
    groups, entries = found.groups, found.entries
    yield HptRow("groups", "all", groups)
    for n, count in enumerate(found.occupancy):
        if count:
            yield HptRow("groups", f"with {n} entries", count, _percent(count, groups))
    if found.missing:
        share = _percent(found.missing, groups)
        yield HptRow("groups", "not in the dump", found.missing, share)
    yield HptRow("entries", "valid", entries)
    for name, count in (
        ("in their secondary group", found.secondary),
        ("bolted", found.bolted),
        ("kernel", found.kernel),
        ("VRMA", found.vrma),
        ("user", entries - found.kernel - found.vrma),
        ("misplaced", found.misplaced),
        ("duplicate", found.duplicate),
    ):
        yield HptRow("entries", name, count, _percent(count, entries))
    yield HptRow("entries", "contexts of processes", found.contexts)
    for (base, actual), count in sorted(found.sizes.items()):
        name = f"{_size(actual)} in {_size(base)} segments" if base else "of unknown size"
        yield HptRow("pages", name, count, _percent(count, entries))


def _percent(part: int, whole: int) -> float | None:
    return round(100 * part / whole, 2) if whole else None


def _size(shift: int) -> str:
    return SIZES.get(shift, f"2^{shift}")


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The hashed page table."""
    return [Analysis(hpt, HptRow, frozenset({"hpt"}))]
