"""The census of pages: what the memory of the crashed partition was used for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import phypan  # what is slow to import is found in it when it is called
from phypan import (
    Analysis,
    Bytes,
    Dump,
    Pages,
    hookimpl,
)
from phypan.pages import bits


@dataclass(frozen=True)
class PagesRow:
    """Pages of one type in one zone; none of node and zone of pages that no zone spans.

    level    the bits of a dump level that leave them out; 0 for none
    in_dump  those of them that the dump has
    """

    node: int | None
    zone: int | None
    type: str
    level: int
    pages: Pages
    size: Bytes
    in_dump: Pages


_Place = tuple[int | None, int | None]  # node, zone


def pages(dump: Dump) -> Iterator[PagesRow]:
    """Pages and bytes by type, node and zone: what filters would leave out."""
    types = phypan.PageTypes(dump)
    spans = _spans(dump)
    here = phypan.present_pages(dump.memory, dump.page_size)
    total: Counter[tuple[_Place, int]] = Counter()
    present: Counter[tuple[_Place, int]] = Counter()
    for first, codes in types:
        for place, low, high in _cut(spans, first, first + len(codes)):
            _count(total, place, codes[low - first : high - first])
            for start, count, there in bits.runs(here, low, high):
                if there:
                    _count(present, place, codes[start - first : start - first + count])
    dump.problems += types.problems
    for (place, code), count in sorted(total.items(), key=_in_order):
        kind = phypan.page_type(code)
        yield PagesRow(
            *place, kind.name, kind.level, count, count * dump.page_size, present[place, code]
        )


def _in_order(item: tuple[tuple[_Place, int], int]) -> tuple[tuple[int, ...], int]:
    (place, _), count = item
    return tuple(-1 if number is None else number for number in place), -count


def _count(counts: Counter[tuple[_Place, int]], place: _Place, codes: bytearray) -> None:
    for code in set(codes):
        counts[place, code] += codes.count(code)


def _spans(dump: Dump) -> list[tuple[int, int, _Place]]:
    """(first, first behind, where) page frame numbers of each zone, in ascending order."""
    return sorted(
        (zone.first, zone.first + zone.spanned, (node.number, zone.number))
        for node in phypan.nodes(dump)
        for zone in node.zones
    )


def _cut(
    spans: list[tuple[int, int, _Place]], first: int, last: int
) -> Iterator[tuple[_Place, int, int]]:
    """(where, first, first behind) of the parts of a range that lie in one zone or in none."""
    for start, end, place in spans:
        low, high = max(start, first), min(end, last)
        if low < high:
            if first < low:
                yield (None, None), first, low
            yield place, low, high
            first = high
    if first < last:
        yield (None, None), first, last


@hookimpl
def phypan_analyses() -> list[Analysis]:
    """The census."""
    return [Analysis(pages, PagesRow, needs=frozenset({"vmcoreinfo"}))]
