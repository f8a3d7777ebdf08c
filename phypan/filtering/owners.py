"""What memory belongs to: a symbol, a task's stack, an object in a slab, else a type of page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from phypan.errors import PhypanError, Problem
from phypan.filtering.types import PageTypes, page_type

if TYPE_CHECKING:
    from phypan.dump import Dump

_LINEAR = 0xC << 60  # where the kernel maps all memory
_MOST = 1 << 26  # bytes of a stack or a module
_BOOTED = 2  # system_state: SYSTEM_RUNNING, since 5.13 SYSTEM_FREEING_INITMEM before it

# (first physical address, the first behind, the effective address of the first, whose stack)
_Area = tuple[int, int, int, str | None]


class Owners:
    """The owners of physical addresses; fast when they are asked for in ascending order."""

    def __init__(self, dump: Dump) -> None:
        self._dump = dump
        self._areas: list[_Area] | None = None
        self._types: PageTypes | None = None
        self._first, self._codes = 0, b""  # the last page types that were read
        self._frame = -1  # of the last slab that was looked at
        self._slab: tuple[str, int, int] | None = None

    def of(self, physical: int) -> str | None:
        """Who owns a physical address, in words; None if nothing is known of it."""
        ways: tuple[Callable[[int], str | None], ...] = (self._symbol, self._object, self._page)
        for way in ways:
            try:
                owner = way(physical)
            except PhypanError:
                continue
            if owner is not None:
                return owner
        return None

    def _symbol(self, physical: int) -> str | None:
        """A symbol of the kernel; or, where memory is mapped again, a module's, or a stack."""
        symbols = self._dump.symbols
        first, end = self._freed
        known = symbols and not first <= physical < end
        found = symbols.describe(_LINEAR | physical) if known else None
        if found is not None:
            return found
        if self._areas is None:
            self._areas = sorted(self._mapped())
        index = bisect_right(self._areas, (physical, 1 << 64, 0, None)) - 1
        if index < 0 or physical >= self._areas[index][1]:
            return None
        first, _, effective, whose = self._areas[index]
        return whose or symbols.describe(effective + physical - first)

    @cached_property
    def _freed(self) -> tuple[int, int]:
        """(first physical address, the first behind) of what the kernel gave up when it had booted.

        Others have that memory now, but symbols of functions for booting still name it.
        """
        symbols, order = self._dump.symbols, self._dump.byte_order
        first, end, state = map(symbols.address, ("__init_begin", "__init_end", "system_state"))
        end = end or symbols.address("_einittext")  # with CONFIG_KALLSYMS_ALL=n all that is known
        if first is None or end is None:
            return 0, 0
        with suppress(PhypanError):
            if state is not None:
                data = self._dump.kernel.space.read(state, 4)
                if int.from_bytes(data, order) < _BOOTED:
                    return 0, 0
        return first - _LINEAR, end - _LINEAR

    def _mapped(self) -> Iterator[_Area]:
        """Stacks, and what of modules has symbols."""
        dump = self._dump
        if not dump.types:
            return
        for table in dump.symbols.tables:
            for first, end in table.parts:
                yield from self._pieces(first, end, None)
        for first, end, whose in stacks(dump):
            yield from self._pieces(first, end, whose)

    def _pieces(self, first: int, end: int, whose: str | None) -> Iterator[_Area]:
        if first >> 60 == _LINEAR >> 60 and first < _LINEAR + self._dump.memory.end:
            yield first - _LINEAR, end - _LINEAR, first, whose
            return
        if not 0 < end - first < _MOST:
            return
        for part in self._dump.spaces["kernel"].parts(first, end):
            if part.physical is not None:
                yield part.physical, part.physical + part.size, part.first, whose

    def _object(self, physical: int) -> str | None:
        """An object of the slab allocator, whose objects lie in a row of the same size."""
        frame = physical // self._dump.page_size
        if frame != self._frame:
            self._frame, self._slab = frame, self._slab_at(_LINEAR | physical)
        if self._slab is None:
            return None
        name, start, size = self._slab
        offset = ((_LINEAR | physical) - start) % size
        return f"{name} object {(_LINEAR | physical) - offset:016x}+{offset:#x}"

    def _slab_at(self, address: int) -> tuple[str, int, int] | None:
        """(name of the cache, effective address of one object, bytes from one to the next)."""
        if not self._dump.types or not self._is("slab", address - _LINEAR):
            return None
        from drgn.helpers.linux.slab import slab_object_info

        from phypan.linux import walk

        try:
            found = slab_object_info(self._dump.program, address)
            if found is None or not found.slab_cache or not found.address:
                return None
            name = walk.text(found.slab_cache.name)
            return name, found.address, max(int(found.slab_cache.size), 1)
        except walk.faults():
            return None

    def _is(self, name: str, physical: int) -> bool:
        """Whether a page is of a type, as far as types are known."""
        found = self._page(physical)
        return found is None or found == f"{name} page"

    def _page(self, physical: int) -> str | None:
        frame = physical // self._dump.page_size
        if not self._first <= frame < self._first + len(self._codes):
            self._types = self._types or PageTypes(self._dump)
            parts = self._types.between(frame, frame + 1)
            found = (part for part in parts if part[0] <= frame < part[0] + len(part[1]))
            self._first, codes = next(found, (0, b""))
            self._codes = bytes(codes)
            if not self._codes:
                return None
        return f"{page_type(self._codes[frame - self._first]).name} page"


def stacks(dump: Dump) -> Iterator[tuple[int, int, str]]:
    """(effective address, the first behind, whose) of the stack of each task."""
    from phypan.linux import tasks, walk

    try:
        size = dump.program.type("union thread_union").size or 0
        for task in tasks.each(dump):
            start = int(task.task.stack)
            if start:
                yield start, start + size, f"stack of {task.comm} ({task.pid})"
    except walk.faults() as error:
        dump.problems.append(Problem(walk.reason(error), "stacks", "they are not named"))
