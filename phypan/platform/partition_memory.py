"""A partition's memory: sparse, so that terabytes cost what is written to them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from phypan.errors import OutputError, PhypanError, os_errors

CHUNK = 1 << 16  # bytes
_ZEROS = bytes(CHUNK)


class PartitionMemory:
    """Bytes from physical address 0 on, zeros until written."""

    def __init__(self, size: int) -> None:
        if size <= 0 or size % CHUNK:
            raise PhypanError(f"memory of {size} bytes", hint=f"a multiple of {CHUNK}, not 0")
        self.size = size
        self._chunks: dict[int, bytes] = {}  # never changed in place: snapshots share them

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes at physical `address`."""
        self._check(address, size)
        first, skip = divmod(address, CHUNK)
        last = (address + size - 1) // CHUNK if size else first
        joined = b"".join(self._chunk(n) for n in range(first, last + 1))
        return joined[skip : skip + size]

    def write(self, address: int, data: bytes) -> None:
        """Put `data` at physical `address`."""
        self._check(address, len(data))
        position = 0
        while position < len(data):
            number, skip = divmod(address + position, CHUNK)
            part = data[position : position + CHUNK - skip]
            if len(part) < CHUNK:
                chunk = bytearray(self._chunk(number))
                chunk[skip : skip + len(part)] = part
                part = bytes(chunk)
            self._set(number, bytes(part))
            position += CHUNK - skip

    def _chunk(self, number: int) -> bytes:
        return self._chunks.get(number, _ZEROS)

    def _set(self, number: int, chunk: bytes) -> None:
        if chunk == _ZEROS:
            self._chunks.pop(number, None)
        else:
            self._chunks[number] = chunk

    def copy(self, source: int, target: int, size: int) -> None:
        """Copy `size` bytes from physical `source` to `target`, which may overlap."""
        self._check(source, size)
        self._check(target, size)
        before = self.snapshot()
        self.clear(target, size)
        for start, chunk in before.chunks(source, source + size):
            self.write(target + start - source, chunk)

    def fill(self, address: int, size: int, value: int) -> None:
        """Fill with a byte; whole chunks share one copy of it."""
        self._check(address, size)
        whole, end = bytes([value]) * CHUNK, address + size
        while address < end:
            number, skip = divmod(address, CHUNK)
            count = min(CHUNK - skip, end - address)
            if count == CHUNK:
                self._set(number, whole)
            else:
                self.write(address, whole[:count])
            address += count

    def clear(self, address: int, size: int) -> None:
        """Fill with zeros."""
        self._check(address, size)
        end = address + size
        for number in [n for n in self._chunks if n * CHUNK < end and (n + 1) * CHUNK > address]:
            start = max(address, number * CHUNK)
            stop = min(end, (number + 1) * CHUNK)
            self.write(start, bytes(stop - start))

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(physical address, bytes) of what may not be zeros, sorted, cut to `start` and `end`."""
        end = self.size if end is None else end
        for number in sorted(self._chunks):
            first, last = max(start, number * CHUNK), min(end, (number + 1) * CHUNK)
            if first < last:
                chunk = self._chunks[number]
                yield first, chunk[first - number * CHUNK : last - number * CHUNK]

    def snapshot(self) -> Self:
        """The memory as it is now; costs next to nothing."""
        copy = type(self)(self.size)
        copy._chunks = dict(self._chunks)
        return copy

    def save(self, path: Path) -> None:
        """Write it to a sparse file."""
        with os_errors(OutputError, path):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as file:
                for start, chunk in self.chunks():
                    file.seek(start)
                    file.write(chunk)
                file.truncate(self.size)

    def _check(self, address: int, size: int) -> None:
        if address < 0 or size < 0 or address + size > self.size:
            raise PhypanError(
                f"{size:#x} bytes at physical address {address:#x} of {self.size:#x}",
                where="partition memory",
            )
