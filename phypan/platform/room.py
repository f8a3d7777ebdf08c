"""Room: which page frames of the guest's memory are taken, and what for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from phypan.errors import PhypanError
from phypan.platform.partition_memory import PartitionMemory
from phypan.ranges import Ranges


@dataclass(frozen=True)
class Use:
    """What `count` pages from page frame `first` on are used for.

    kind   as phypan.PageTypes names it
    order  of a compound page: log2 of its pages; 0 where each page stands for itself
    """

    first: int
    count: int
    kind: str
    order: int = 0


class Room:
    """The first `frames` page frames of a memory.

    uses  of what is taken, in the order of taking
    """

    def __init__(self, memory: PartitionMemory, page_size: int, frames: int) -> None:
        self.memory, self.page_size, self.frames = memory, page_size, frames
        self.uses: list[Use] = []
        self._held = Ranges()

    def hold(self, start: int, size: int, kind: str, order: int = 0) -> None:
        """Take the pages of `size` bytes at a physical address, whatever is in them."""
        first = start // self.page_size
        last = min(-(-(start + size) // self.page_size), self.frames)
        if first < last:
            self._held.add(first, last)
            self.uses.append(Use(first, last - first, kind, order))

    def free(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """(first, last) page frames, the last not included, that nobody has, between addresses."""
        last = self.frames if end is None else min(-(-end // self.page_size), self.frames)
        yield from list(self._held.gaps(start // self.page_size, last))

    def find(self, size: int, alignment: int) -> int | None:
        """Physical address of `size` bytes that nobody has: the highest, as memblock has it."""
        for first, last in reversed(list(self.free())):
            start = (last * self.page_size - size) // alignment * alignment
            if start >= first * self.page_size:
                return start
        return None

    def take(self, size: int, alignment: int | None = None) -> int:
        """The same, of zeros, taken for the kernel; whole pages."""
        whole = -(-size // self.page_size) * self.page_size
        place = self.find(whole, alignment or self.page_size)
        if place is None:
            raise PhypanError(
                f"no room for {size} bytes of what leads to struct pages",
                where="platform model",
                hint="more --memory, or less --boot-memory",
            )
        self.memory.clear(place, whole)
        self.hold(place, whole, "kernel")
        return place
