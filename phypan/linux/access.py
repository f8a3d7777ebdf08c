"""Reading the crashed kernel's memory by effective address."""

from __future__ import annotations

from typing import Protocol

from phypan.errors import PhypanError
from phypan.memory import Memory

_STEP = 1 << 20  # bytes that are read at a time when it is not known how many there are


class Space(Protocol):
    """What is needed of a space: reading, with a reason where that is impossible."""

    memory: Memory

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at an effective address; PhypanError where there are none."""
        ...


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
