"""What the second boot's memory still holds of the crashed partition's, and where.

Low memory comes from the copy that the firmware made, everything else from its place. What the
firmware and the second kernel have written over is a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from phypan.errors import Problem
from phypan.extents import EVERYWHERE, Extent, Hole, without_overlaps
from phypan.formats.kernel_dump import OS_TYPES, Section, SectionType
from phypan.memory import Memory
from phypan.pages.state import PageState
from phypan.stores import Store

SECOND_KERNEL = 256 << 20  # bytes that the second kernel is given when no copy says how many
LARGEST_PAGE = 65536
_PLATFORM = (SectionType.CPU_STATE, SectionType.HPTE)
_MEMORY = (SectionType.REAL_MODE_REGION, SectionType.OS_IDENTIFICATION)
Span = tuple[int, int]  # physical addresses: the first, and the first behind it


@dataclass
class _Layout:
    """What lies where in the second boot's memory, and what was wrong about it."""

    ram: Store
    copies: list[Section] = field(default_factory=list)  # of memory, to another place
    areas: list[Span] = field(default_factory=list)  # what was asked of the firmware
    written: list[Span] = field(default_factory=list)  # what it did
    problems: list[Problem] = field(default_factory=list)

    def problem(self, what: str, where: str, meaning: str) -> None:
        self.problems.append(Problem(what, where, meaning))


def memory(
    ram: Store,
    sections: Iterable[Section],
    stretches: Sequence[tuple[int, int]] | None = None,
    header: Span | None = None,
) -> tuple[Memory, list[Problem]]:
    """(the crashed partition's memory, what is wrong about it).

    ram        the second boot's memory, from physical address 0
    sections   what the firmware preserved, and where
    stretches  (start, size) of the partition's memory; None: as much as there is in `ram`
    header     where Linux put its crash info header
    """
    layout = _layout(ram, sections)
    spoiled, sources = _collisions(layout)
    end, holes = _end(layout, stretches)
    holes = [*holes, *_lost(layout, spoiled, sources), *_kept_free(layout, header)]
    copied, twice = without_overlaps(_copied(layout, spoiled))
    if twice:
        what = f"physical address {twice[0].start:#x} was copied more than once"
        layout.problem(what, "ibm,kernel-dump", "the first copy was used")
    taken = [(copy.source, copy.source + copy.length) for copy in layout.copies]
    taken += [(hole.start, hole.end) for hole in holes]
    told = [(start, min(start + size, end)) for start, size in stretches or [(0, ram.size)]]
    in_place = _minus(merged(told), merged(taken))
    there = [Extent(start, stop - start, ram, start) for start, stop in in_place]
    return Memory([*_apart(copied, sources), *there], holes), layout.problems


def _layout(ram: Store, sections: Iterable[Section]) -> _Layout:
    layout = _Layout(ram)
    for section in sections:
        where = f"{section.name} section"
        ends = section.source + section.length, section.destination + section.length
        if max(ends) > EVERYWHERE:
            layout.problem("wraps around", where, "it is left out")
        elif section.type not in (*_PLATFORM, *_MEMORY) and section.type < OS_TYPES:
            layout.problem("of unknown type", where, "it is left out")
        elif section.type in _PLATFORM or section.source != section.destination:
            written = min(section.length, section.dumped)
            layout.areas.append((section.destination, ends[1]))
            layout.written.append((section.destination, section.destination + written))
            if section.type not in _PLATFORM and section.length:
                layout.copies.append(section)
    if not any(copy.source == 0 for copy in layout.copies):
        meaning = f"the first {SECOND_KERNEL >> 20} MiB are lost to the second kernel"
        layout.problem("no copy of low memory", "ibm,kernel-dump", meaning)
    return layout


def _collisions(layout: _Layout) -> tuple[list[Span], list[Span]]:
    """(parts of preserved areas that were written over, parts of memory that were before copying).

    Areas that lie on each other, or on what was still to be copied: nobody knows in which order
    the firmware went about it, so neither can be trusted.
    """
    areas = sorted(area for area in layout.written if area[0] < area[1])
    copied = [(copy.source, copy.source + copy.length) for copy in layout.copies]
    twice = [(b[0], min(a[1], b[1])) for n, a in enumerate(areas) for b in areas[n + 1 :]]
    twice = merged(span for span in twice if span[0] < span[1])
    sources = _common(merged(areas), merged(copied))
    for spans, where, meaning in (
        (twice, "preserved areas lie on each other", "what they held there is lost"),
        (sources, "preserved areas lie on what was copied", "it may be lost, on both sides"),
    ):
        if spans:
            place = f"physical address {spans[0][0]:#x} to {spans[-1][1]:#x}"
            layout.problem(where, place, meaning)
    return merged([*twice, *sources]), sources


def _end(layout: _Layout, stretches: Sequence[tuple[int, int]] | None) -> tuple[int, list[Hole]]:
    """(where memory ends as far as the image has it, the hole that is behind that)."""
    size = layout.ram.size
    end = max((start + length for start, length in stretches or ()), default=size)
    if end > EVERYWHERE:
        layout.problem("memory wraps around", "device tree", "it ends with the image")
        end = size
    if end <= size:
        return end, []
    layout.problem(
        f"{size:#x} bytes, memory ends at {end:#x}",
        layout.ram.name,
        "the memory behind it is missing: was the file cut short when it was copied?",
    )
    return size, [Hole(size, end - size, PageState.DAMAGED, "the RAM image ends before it")]


def _readable(layout: _Layout, copy: Section) -> int:
    """Bytes of the copy that can be read."""
    size = min(copy.length, copy.dumped)
    return max(0, min(size, layout.ram.size - copy.destination))


def _copied(layout: _Layout, spoiled: Sequence[Span]) -> Iterator[Extent]:
    """Low memory and whatever else was copied, by its old addresses, without what is spoiled."""
    for copy in layout.copies:
        readable = _readable(layout, copy)
        if readable < min(copy.length, copy.dumped):
            what = f"its copy is at {copy.destination:#x}, memory ends at {layout.ram.size:#x}"
            meaning = "what cannot be read there is a hole"
            layout.problem(what, f"{copy.name} section", meaning)
        for start, end in _minus([(copy.destination, copy.destination + readable)], spoiled):
            at = copy.source + start - copy.destination
            yield Extent(at, end - start, layout.ram, start)


def _apart(extents: Iterable[Extent], spans: Sequence[Span]) -> Iterator[Extent]:
    """What of `extents` is not in `spans`."""
    for extent in extents:
        for start, end in _minus([(extent.start, extent.end)], spans):
            offset = extent.offset + start - extent.start
            yield Extent(start, end - start, extent.store, offset)


def _lost(layout: _Layout, spoiled: Sequence[Span], sources: Sequence[Span]) -> Iterator[Hole]:
    """What was to be copied and was not, or was written over since."""
    why = "preserved areas lay on each other or on what was copied"
    for start, end in sources:
        yield Hole(start, end - start, PageState.DAMAGED, why)
    for copy in layout.copies:
        size = _readable(layout, copy)
        place = copy.destination, copy.destination + size
        for start, end in _common([place], spoiled):
            at = copy.source + start - copy.destination
            yield Hole(at, end - start, PageState.DAMAGED, why)
        told = f"the firmware did not preserve it ({size:#x} of {copy.length:#x} bytes)"
        yield Hole(copy.source + size, copy.length - size, PageState.DAMAGED, told)
    if not any(copy.source == 0 for copy in layout.copies):
        yield Hole(0, SECOND_KERNEL, PageState.DAMAGED, "the second kernel runs in it")


def _kept_free(layout: _Layout, header: Span | None) -> Iterator[Hole]:
    """The memory that the preserved areas lie in; gaps of less than a page between them too."""
    areas = [*layout.areas, *([header] if header else [])]
    for start, end in merged(areas, LARGEST_PAGE):
        why = "the firmware put what it preserved there"
        yield Hole(start, end - start, PageState.ABSENT, why)


def merged(spans: Iterable[Span], gap: int = 1) -> list[Span]:
    """`spans` in order, without overlaps; those less than `gap` bytes apart become one."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start < found[-1][1] + gap:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _minus(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """What `others`, which are in order and apart, leave of `spans`."""
    left = []
    for span in spans:
        at, end = span
        for index in range(max(0, bisect_right(others, (at, EVERYWHERE)) - 1), len(others)):
            first, last = others[index]
            if first >= end:
                break
            if at < first:
                left.append((at, first))
            at = max(at, last)
        if at < end:
            left.append((at, end))
    return left


def _common(spans: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """What is in `spans` and in `others`, both in order and apart."""
    pairs = ((max(a[0], b[0]), min(a[1], b[1])) for a in spans for b in others)
    return [pair for pair in pairs if pair[0] < pair[1]]
