"""Reading the crashed kernel's memory by effective address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from phypan.errors import NotInDump, PhypanError, TranslationFault
from phypan.memory import Memory

_STEP = 1 << 20  # bytes that are read at a time when it is not known how many there are


class Space(Protocol):
    """What is needed of a space: reading, with a reason where that is impossible."""

    memory: Memory

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an effective address; PhypanError where there are none."""
        ...


class LinearToo:
    """The kernel's addresses by its page tables; where these are destroyed, by the linear map.

    In the linear map the kernel itself knows the physical address without its tables (__pa()), so
    that nothing is guessed: the log, which is there, survives them.

    damaged  the tables contradict what must be true: the linear map is asked first
    lost     called once, with why the tables did not translate an address that could be read so
    """

    def __init__(
        self, tables: Space, linear: Space, lost: Callable[[str], None], *, damaged: bool = False
    ) -> None:
        self._tables, self._linear, self.memory = tables, linear, tables.memory
        self._damaged = damaged
        self._lost: Callable[[str], None] | None = lost

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an effective address, as a space reads them."""
        found = self._by_linear_map(address, size) if self._damaged else None
        if found is not None:
            return found
        try:
            return self._tables.read(address, size)
        except (TranslationFault, NotInDump) as error:
            found = self._by_linear_map(address, size)
            if found is None:
                raise
            if self._lost is not None:
                lost, self._lost = self._lost, None
                lost(str(error))
            return found

    def _by_linear_map(self, address: int, size: int) -> bytes | None:
        try:
            return self._linear.read(address, size)
        except PhypanError:
            return None


def read_some(space: Space, address: int, size: int) -> bytes:
    """Up to `size` bytes at an effective address: as many as there are without a gap."""
    parts, end, step = [], address + size, _STEP
    while address < end and step:
        count = min(step, end - address)
        try:
            parts.append(space.read(address, count))
            address += count
        except PhypanError:
            step = count // 2
    return b"".join(parts)
