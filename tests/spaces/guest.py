"""A guest's memory to build page tables in, and ways to run the kernels over it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from phypan.kernels import modes
from phypan.memory import Extent, Memory
from phypan.spaces.eras import ERAS, Era
from phypan.spaces.resident import Resident
from phypan.stores import BytesStore

MODES: tuple[modes.Mode, ...] = ("numba", "numpy", "plain")


@contextlib.contextmanager
def kernels(how: str) -> Iterator[None]:
    """Run kernels this way."""
    before = os.environ.get(modes.VARIABLE)
    os.environ[modes.VARIABLE] = how
    try:
        yield
    finally:
        if before is None:
            del os.environ[modes.VARIABLE]
        else:
            os.environ[modes.VARIABLE] = before


class Ram:
    """Physical memory from `start` on; tables are allocated from its beginning."""

    def __init__(self, size: int = 4 << 20, start: int = 1 << 20) -> None:
        self.data, self.start, self._next = bytearray(size), start, start

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.data[address - self.start : address - self.start + size])

    def write(self, address: int, data: bytes) -> None:
        assert 0 <= address - self.start <= len(self.data) - len(data)
        self.data[address - self.start : address - self.start + len(data)] = data

    def allocate(self, size: int) -> int:
        at = -(-self._next // size) * size
        self._next = at + size
        assert self._next <= self.start + len(self.data)
        return at

    def memory(self) -> Memory:
        return Memory([Extent(self.start, len(self.data), BytesStore(self.data), 0)])

    def resident(self) -> Resident:
        return Resident(self.memory())


class Fetched(BytesStore):
    """Bytes that are not resident: each page is asked for, as of a compressed dump."""

    resident = False

    def __init__(self, data: bytes | bytearray) -> None:
        super().__init__(data)
        self.asked: list[tuple[int, int]] = []

    def view(self, offset: int, size: int) -> memoryview:
        self.asked.append((offset, size))
        return super().view(offset, size)


def release_of(era: Era) -> tuple[int, ...]:
    """The first release of an era."""
    return era.since


def era(name: str) -> Era:
    """An era by name."""
    return next(era for era in ERAS if era.name == name)
