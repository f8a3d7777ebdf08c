"""What to look for in a block: patterns, numbers, printable text; by numba, or by the twins.

Each function gives what it finds in lists: the kernels write down so many places at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from phypan.formats._records import ByteOrder
from phypan.kernels.twins import searching as twins
from phypan.spaces.runs import Block

_AT_ONCE = 1 << 14  # places that a kernel writes down before they are given on
# The most frequent bytes of a kernel's memory, the most frequent first.
_FREQUENT = bytes([0, 0xFF, 0x20, 0xC0, 1, 0x65, 0x74, 0x61, 0x6F, 0x69, 0x6E, 0x73, 0x72, 0x5F])


# --- patterns ---


def pattern(block: Block, needle: bytes) -> Iterator[list[int]]:
    """Effective addresses at which `needle` stands."""
    import numpy as np

    from phypan.kernels import compiled

    wanted, out = np.frombuffer(needle, np.uint8), np.empty(_AT_ONCE, np.int64)
    rare, other = _rarest(needle)
    for first, end, data in block.readable():
        octets = np.frombuffer(data, np.uint8)
        at, last = 0, min(end - first, len(data) - len(needle) + 1)
        while at < last:
            count, at = compiled.find_pattern(octets, at, last, wanted, rare, other, out)
            yield [first + index for index in out[:count].tolist()]


def _rarest(needle: bytes) -> tuple[int, int]:
    """Places of two bytes of a pattern that are less frequent in memory than its others."""
    order = sorted(range(len(needle)), key=lambda n: (_frequency(needle[n]), -n))
    return order[0], order[1 % len(order)]


def _frequency(byte: int) -> int:
    """A rank: of the most frequent bytes of a kernel's memory, by their place in a list."""
    place = _FREQUENT.find(byte)
    return len(_FREQUENT) - place if place >= 0 else 0


def pattern_by_twin(block: Block, needle: bytes) -> Iterator[list[int]]:
    """The same without numba."""
    for first, end, data in block.readable():
        found = twins.pattern(bytes(data), 0, end - first, needle)
        yield [first + index for index in found]


# --- numbers ---


def _words(block: Block, size: int) -> Iterator[tuple[int, memoryview]]:
    """(effective address, bytes) of whole aligned words that begin in a block."""
    for first, end, data in block.readable():
        skip = -first % size
        count = (min(end - first + size - 1, len(data)) - skip) // size
        if count > 0:
            yield first + skip, data[skip : skip + count * size]


def numbers(
    block: Block, size: int, low: int, high: int, order: ByteOrder
) -> Iterator[list[tuple[int, int]]]:
    """(effective address, value) of aligned words of `size` bytes from `low` to `high`."""
    import numpy as np

    from phypan.kernels import compiled

    out, swap = np.empty(_AT_ONCE, np.int64), 0 if order == sys.byteorder else size
    for first, data in _words(block, size):
        words = np.frombuffer(data, f"u{size}")
        at, least, most = 0, np.uint64(low), np.uint64(high)
        while at < len(words):
            count, at = compiled.find_numbers(words, at, least, most, swap, out)
            places = out[:count]
            chosen = words[places].byteswap() if swap else words[places]
            yield [
                (first + size * place, value)
                for place, value in zip(places.tolist(), chosen.tolist(), strict=True)
            ]


def numbers_by_twin(
    block: Block, size: int, low: int, high: int, order: ByteOrder
) -> Iterator[list[tuple[int, int]]]:
    """The same without numba."""
    for first, data in _words(block, size):
        found = twins.numbers(data, size, order == "big", low, high)
        yield [
            (first + size * n, int.from_bytes(data[size * n : size * (n + 1)], order))
            for n in found
        ]


# --- text ---

# (effective address, its bytes, whether it touches the start of its block, and the end)
Piece = tuple[int, memoryview, bool, bool]


def texts(block: Block, least: int, stride: int, letter: int, odd: int) -> Iterator[list[Piece]]:
    """Runs of printable characters of `stride` bytes, at addresses that are `odd` or not."""
    import numpy as np

    from phypan.kernels import compiled

    out = np.empty(2 * _AT_ONCE, np.int64)
    for first, end, data in block.readable():
        octets = np.frombuffer(data, np.uint8)
        begin, last = _whole(first, end, len(data), stride, odd)
        at, inside = begin, 1
        while at < last:
            count, at = compiled.find_texts(octets, at, last, stride, letter, least, inside, out)
            inside = 0
            pairs = out[:count].reshape(-1, 2).tolist()
            yield [_piece(first, data, start, stop, begin, last) for start, stop in pairs]


def texts_by_twin(
    block: Block, least: int, stride: int, letter: int, odd: int
) -> Iterator[list[Piece]]:
    """The same without numba."""
    for first, end, data in block.readable():
        begin, last = _whole(first, end, len(data), stride, odd)
        found = twins.texts(data[:last], begin, stride, letter, least)
        yield [_piece(first, data, start, stop, begin, last) for start, stop in found]


def _whole(first: int, end: int, size: int, stride: int, odd: int) -> tuple[int, int]:
    """Indexes of the first character of a block, and behind its last."""
    begin = (odd - first) % stride
    last = min(end - first + stride - 1, size)
    return begin, last - (last - begin) % stride


def _piece(first: int, data: memoryview, start: int, stop: int, begin: int, last: int) -> Piece:
    return first + start, data[start:stop], start == begin, stop == last
