"""Bitmaps: one bit for each page, bit n % 8 of byte n // 8, as makedumpfile stores them.

Plain Python over the standard library's C: a map of 16 million pages is 2 MiB, and is gone
through in a fraction of a second without numpy.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator

Bits = bytes | bytearray | memoryview

_RUN = re.compile(rb"\x00+|\x01+")
_SPREAD = [bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256)]
_STEP = 8192  # bytes of a map that are looked at together
_BLOCK = 512  # bytes of a map for each entry of a Rank


def test(bits: Bits, number: int) -> bool:
    """Whether bit `number` is set; bits behind the end are not."""
    byte = number >> 3
    return byte < len(bits) and bool(bits[byte] >> (number & 7) & 1)


def runs(bits: Bits, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """(first, count, set or not) of each run of equal bits from `start` to `stop`."""
    first, value = start, None
    for position, length, bit in _pieces(bits, start, stop):
        if bit != value:
            if value is not None:
                yield first, position - first, value
            first, value = position, bit
        end = position + length
    if value is not None:
        yield first, end - first, value


def _pieces(bits: Bits, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """Runs within steps of the map: the same run may go on in the next piece."""
    held = min(stop, len(bits) * 8)
    position = start
    while position < held:
        low = position >> 3
        high = min(low + _STEP, (held + 7) >> 3)
        end = min(high * 8, held)
        chunk = bytes(bits[low:high])
        if chunk.count(chunk[:1]) == len(chunk) and chunk[0] in (0, 255):
            yield position, end - position, chunk[0] == 255
        else:
            spread = b"".join([_SPREAD[byte] for byte in chunk])
            for match in _RUN.finditer(spread, position - low * 8, end - low * 8):
                where, behind = match.span()
                yield where + low * 8, behind - where, spread[where] == 1
        position = end
    if max(start, held) < stop:
        yield max(start, held), stop - max(start, held), False


def set_run(bits: bytearray, start: int, count: int, value: bool = True) -> None:
    """Set or clear `count` bits from `start` on, which the map must be long enough for."""
    while count and start & 7:
        _set_one(bits, start, value)
        start, count = start + 1, count - 1
    whole = count >> 3
    bits[start >> 3 : (start >> 3) + whole] = (b"\xff" if value else b"\0") * whole
    for number in range(start + whole * 8, start + count):
        _set_one(bits, number, value)


def _set_one(bits: bytearray, number: int, value: bool) -> None:
    mask = 1 << (number & 7)
    bits[number >> 3] = bits[number >> 3] | mask if value else bits[number >> 3] & ~mask


def count(bits: Bits, start: int = 0, stop: int | None = None) -> int:
    """How many bits are set from `start` to `stop`."""
    stop = len(bits) * 8 if stop is None else min(stop, len(bits) * 8)
    total = 0
    for low in range(start >> 3, (stop + 7) >> 3, _STEP):
        high = min(low + _STEP, (stop + 7) >> 3)
        value = int.from_bytes(bits[low:high], "little")
        if low * 8 < start:
            value &= -1 << (start - low * 8)
        if high * 8 > stop:
            value &= (1 << (stop - low * 8)) - 1
        total += value.bit_count()
    return total


class Rank:
    """How many bits are set before a bit: the place of a page among those that are stored."""

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self._before = array("Q", [0])
        total = 0
        for low in range(0, len(bits), _BLOCK):
            total += int.from_bytes(bits[low : low + _BLOCK], "little").bit_count()
            self._before.append(total)

    @property
    def total(self) -> int:
        """How many bits are set."""
        return self._before[-1]

    def __getitem__(self, number: int) -> int:
        """How many of the bits before bit `number` are set."""
        byte = number >> 3
        if byte >= len(self._bits):
            return self.total
        block = byte // _BLOCK
        low = int.from_bytes(self._bits[block * _BLOCK : byte + 1], "little")
        mask = (1 << (number - block * _BLOCK * 8)) - 1
        return self._before[block] + (low & mask).bit_count()

    def select(self, rank: int) -> int:
        """The bit that has `rank` set bits before it and is set; there must be one."""
        block = bisect_right(self._before, rank) - 1
        rest = rank - self._before[block]
        for byte in range(block * _BLOCK, (block + 1) * _BLOCK):
            inside = self._bits[byte].bit_count()
            if rest < inside:
                break
            rest -= inside
        places = [bit for bit in range(8) if self._bits[byte] >> bit & 1]
        return byte * 8 + places[rest]


def both(first: Bits, second: Bits) -> bytes:
    """The bits that are set in both maps."""
    size = min(len(first), len(second))
    pairs = (
        (first[low : min(low + _STEP, size)], second[low : min(low + _STEP, size)])
        for low in range(0, size, _STEP)
    )
    return b"".join(
        (int.from_bytes(a, "little") & int.from_bytes(b, "little")).to_bytes(len(a), "little")
        for a, b in pairs
    )


def without(first: Bits, second: Bits) -> bytes:
    """The bits that are set in the first map and not in the second."""
    return both(first, bytes(second).translate(_INVERSE).ljust(len(first), b"\xff"))


_INVERSE = bytes(255 - byte for byte in range(256))
