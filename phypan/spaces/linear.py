"""The linear map: physical memory in one piece from PAGE_OFFSET on, as __pa() has it.

Nothing is looked up. Where the kernel has taken a page out of its linear map, this space does not
know it; `Spaces["kernel"]` does, where the tables say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from phypan.kernels import tables
from phypan.memory import Memory
from phypan.spaces import batch
from phypan.spaces.batch import Batch
from phypan.spaces.eras import PAGE_OFFSET
from phypan.spaces.resident import Resident
from phypan.spaces.space import MappedRange, Space, Translation

LAST = 0xCFFFFFFFFFFFFFFF


class LinearSpace(Space):
    """Effective addresses from `first` to `last`, which stand for physical ones from 0 on."""

    def __init__(
        self,
        memory: Memory,
        page_size: int,
        first: int = PAGE_OFFSET,
        last: int = LAST,
        *,
        name: str = "linear",
    ) -> None:
        super().__init__(memory)
        self.name, self.page_size, self.first, self.last = name, page_size, first, last

    def translate(self, address: int) -> Translation:
        """What an effective address translates to."""
        if not self.first <= address <= self.last:
            return Translation(address, None, "not in the linear map")
        how, size = "linear map", self.page_size
        return self.stated(Translation(address, address - self.first, None, size, how=how))

    def translate_many(self, addresses: Iterable[int]) -> Batch:
        """Many addresses at once, as arrays."""
        facts = [0] * tables.FACTS
        facts[tables.LINEAR_FIRST], facts[tables.LINEAR_LAST] = self.first, self.last
        facts[tables.LIST_FIRST] = facts[tables.FIRST] = 1
        facts[tables.PAGE_SHIFT] = self.page_size.bit_length() - 1
        return batch.translate(Resident(Memory([])), batch.call_tables(facts, ()), addresses)

    def mappings(self, *, alike: bool = False) -> Iterator[MappedRange]:
        """What the dump has of memory."""
        for piece in self.memory.extents:
            yield MappedRange(self.first + piece.start, piece.size, piece.start, self.page_size)
