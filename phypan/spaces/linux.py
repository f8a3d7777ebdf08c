"""Spaces behind trees of page tables: the kernel's, a process's, a radix tree of its own.

`facts` say what the tables look like (phypan/spaces/eras.py); single addresses and batches go
through the same kernel, phypan/kernels/tables.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from phypan.errors import Problem
from phypan.kernels import tables
from phypan.spaces import batch
from phypan.spaces.batch import FAULTS, MAX_ENTRIES, Batch
from phypan.spaces.eras import Entries, Era
from phypan.spaces.resident import Resident
from phypan.spaces.space import MappedRange, Protection, Space, Step, Translation, mapping

Pieces = Sequence[tuple[int, int]]  # (effective, physical) addresses of pieces of vmemmap, sorted


def protection(entries: Entries, entry: int) -> Protection:
    """What a leaf of Linux's tables allows."""
    return Protection(
        read=not entries.read or bool(entry & (entries.read | entries.write)),
        write=bool(entry & entries.write),
        execute=bool(entry & entries.execute),
        user=bool(entry & entries.user)
        or bool(entries.privileged and not entry & entries.privileged),
        inhibited=bool(entry & entries.inhibited),
    )


class TreeSpace(Space):
    """Page tables in physical memory.

    facts       how to walk them, from where
    levels      their names from the top
    protection  what a leaf allows
    pieces      of vmemmap, where a list has them instead of the tables
    below       what is mapped at lower addresses than the tables map: the linear map
    problems    what a walk over all tables found wrong is added here
    """

    def __init__(
        self,
        name: str,
        resident: Resident,
        facts: list[int],
        levels: Sequence[str],
        protection: Callable[[int], Protection],
        *,
        pieces: Pieces = (),
        below: Callable[[], Iterable[MappedRange]] = tuple,
        problems: list[Problem] | None = None,
    ) -> None:
        super().__init__(resident.memory)
        self.name, self.resident, self.facts = name, resident, facts
        self._levels, self._protection = levels, protection
        self._pieces, self._below = pieces, below
        self._listed = [first for first, _ in pieces], [physical for _, physical in pieces]
        self._problems = [] if problems is None else problems
        self._at, self._values = [0] * tables.MAX_STEPS, [0] * tables.MAX_STEPS

    def translate(self, address: int) -> Translation:
        """What an effective address translates to; the entries on the way are in `steps`."""
        while True:
            fault, found, shift, count = tables.translate(
                self.facts, *self._listed, *self.resident.extents("plain").arrays,
                address, self._at, self._values,
            )  # fmt: skip
            if fault != tables.NOT_RESIDENT or not self.resident.fetch([found]):
                break
        steps = tuple(Step(self._level(n), self._at[n], self._values[n]) for n in range(count))
        if fault != tables.OK:
            why = self._why(fault, found, steps)
            return Translation(address, None, why, (1 << shift) if shift else 0, steps=steps)
        allowed = self._protection(self._values[count - 1]) if count else None
        how = "page tables" if count else self._without_tables(address)
        result = Translation(address, found, None, 1 << shift, allowed, steps, how=how)
        return self.stated(result)

    def _without_tables(self, address: int) -> str:
        linear = self.facts[tables.LINEAR_FIRST] <= address <= self.facts[tables.LINEAR_LAST]
        return "linear map" if linear else "vmemmap_list"

    def _level(self, index: int) -> str:
        return self._levels[index] if index < len(self._levels) else f"level {index + 1}"

    def _why(self, fault: int, where: int, steps: tuple[Step, ...]) -> str:
        if fault == tables.NOT_RESIDENT:
            piece = self.memory.at(where)
            reason = getattr(piece, "why", "it lies across a border")
            level = self._level(len(steps))
            return f"the {level} entry at physical address {where:#x} is not in the dump: {reason}"
        if not steps:
            return FAULTS[fault] if fault == tables.OUTSIDE else "not in vmemmap_list"
        last = steps[-1]
        entry = f"the {last.level} entry at physical address {last.address:#x}"
        if fault == tables.BAD_ENTRY:
            return f"{entry} is {last.value:#x}, which is no page table entry"
        return f"not mapped: {entry} is {last.value:#x}"

    def translate_many(self, addresses: Iterable[int]) -> Batch:
        """Many addresses at once, as arrays."""
        return batch.translate(
            self.resident, batch.call_tables(self.facts, self._pieces), addresses
        )

    def mappings(self, *, alike: bool = False, budget: int = MAX_ENTRIES) -> Iterator[MappedRange]:
        """All that is mapped, in order of address; what is in the way of it has a fault."""
        yield from self._below()
        try:
            for found in batch.ranges(self.resident, self.facts, alike=alike, budget=budget):
                allowed = None if found.fault else self._protection(found.flags)
                yield mapping(found, allowed, FAULTS.get(found.fault))
        except batch.TooManyEntries:
            what = f"more than {budget} entries, or {batch.MAX_RANGES} ranges"
            where = f"page tables of {self.name}"
            meaning = "the list of what they map ends there: are they damaged?"
            self._problems.append(Problem(what, where, meaning))
        shift = self.facts[tables.LIST_SHIFT]
        yield from _joined(self._pieces, 1 << shift)


def _joined(pieces: Pieces, size: int) -> Iterator[MappedRange]:
    """The pieces of vmemmap, those that continue each other made one."""
    last: MappedRange | None = None
    for first, physical in pieces:
        if last is not None and (first, physical) == (last.end, last.physical_end):
            last = MappedRange(last.first, last.size + size, last.physical, size)
            continue
        if last is not None:
            yield last
        last = MappedRange(first, size, physical, size)
    if last is not None:
        yield last


def era_levels(era: Era) -> tuple[str, ...]:
    """Names of the levels of an era's tables, from the top."""
    return tuple(name for name, _, _ in era.levels)
