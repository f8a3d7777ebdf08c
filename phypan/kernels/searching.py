"""Where something stands in a stretch of bytes: patterns, numbers, printable text.

Each function looks from a place on, writes what it finds to `out` until that is full, and says how
much it wrote and where to go on. Bytes are an array of numpy's, or a memoryview in plain Python.
The loops over a block have no branches in them, so that they are compiled to vector instructions.
"""

from __future__ import annotations

from typing import Any

from phypan.kernels.words import Words, i64, u64

_BLOCK = 512  # bytes that are looked at before anything is decided
_FEW = 128  # words, likewise


def pattern(
    data: Any, first: int, last: int, needle: Any, rare: int, other: int, out: Words
) -> tuple[int, int]:
    """Indexes from `first` to before `last` at which `needle` stands: (how many, where to go on).

    rare, other  places in the needle of two bytes that are not frequent: only where both are
                 right the others are looked at
    `data` holds all of a needle that begins before `last`.
    """
    count, at, end, length = 0, u64(first), u64(last), u64(len(needle))
    one, two = u64(rare), u64(other)
    a, b = needle[one], needle[two]
    while at < end:
        hit, size = True, end - at
        if size >= u64(_BLOCK):
            hit, size = False, u64(_BLOCK)
            for n in range(_BLOCK):  # a constant: else compilers do half as well
                hit |= (data[at + u64(n) + one] == a) & (data[at + u64(n) + two] == b)
        for n in range(size if hit else u64(0)):
            if data[at + n + one] != a or data[at + n + two] != b:
                continue
            m = u64(0)
            while m < length and data[at + n + m] == needle[m]:
                m += u64(1)
            if m == length:
                if count == len(out):
                    return count, i64(at + n)
                out[count] = i64(at + n)
                count += 1
        at += size
    return count, i64(at)


def numbers(words: Any, first: int, low: int, high: int, swap: int, out: Words) -> tuple[int, int]:
    """Indexes from `first` on of words from `low` to `high`: (how many, where to go on).

    swap  4 or 8 where words are so long and of the other byte order than this host's, else 0
    """
    count, at, end = 0, u64(first), u64(len(words))
    least, most = u64(low), u64(high)
    while at < end:
        hit, size = True, end - at
        if size >= u64(_FEW):
            hit, size = False, u64(_FEW)
            for n in range(_FEW):
                value = ordered(words[at + u64(n)], swap)
                hit |= (value >= least) & (value <= most)
        for n in range(size if hit else u64(0)):
            if least <= ordered(words[at + n], swap) <= most:
                if count == len(out):
                    return count, i64(at + n)
                out[count] = i64(at + n)
                count += 1
        at += size
    return count, i64(at)


def ordered(word: int, swap: int) -> int:
    """The value of a word: of `swap` bytes in the other order, or as it is if that is 0."""
    if swap == 8:
        return swapped8(u64(word))
    if swap == 4:
        return swapped4(u64(word))
    return u64(word)


def swapped4(value: int) -> int:
    """A 32-bit word with its bytes in the other order."""
    outer = (value & u64(0xFF)) << u64(24) | value >> u64(24)
    return outer | (value & u64(0xFF00)) << u64(8) | (value >> u64(8)) & u64(0xFF00)


def swapped8(value: int) -> int:
    """A 64-bit word with its bytes in the other order."""
    upper = swapped4(value & u64(0xFFFFFFFF))
    return upper << u64(32) | swapped4(value >> u64(32))


def printable(data: Any, at: int, stride: int, letter: int) -> bool:
    """Whether a character that text is made of stands there: ASCII from space to ~, or a tab.

    stride  bytes of a character; letter: which of them has it, the other must be 0
    """
    byte = data[u64(at + letter)]
    if stride == 2 and data[u64(at + 1 - letter)] != 0:
        return False
    return bool((byte >= 0x20) & (byte <= 0x7E) | (byte == 9))


def texts(
    data: Any, first: int, last: int, stride: int, letter: int, least: int, inside: int, out: Words
) -> tuple[int, int]:
    """Runs of printable characters from `first` on: (how many numbers, where to go on).

    Of each run there are two: the index of its first byte, and of the first behind it.
    It has `least` characters or more. One that begins at `first` itself is told however short it
    is, if `inside` is not 0, and one that reaches `last`: it may go on outside.
    """
    count, at = 0, first
    end = last - (last - first) % stride
    while at < end:
        begun = inside != 0 and at == first
        probe = at + (least - 1) * stride
        if not begun and probe < end and not printable(data, probe, stride, letter):
            at = probe + stride  # whatever is before that is too short
            continue
        behind = at
        while behind < end and printable(data, behind, stride, letter):
            behind += stride
        enough = behind - at >= least * stride or behind == end or begun
        if enough and behind > at:
            if count + 2 > len(out):
                return count, at
            out[count], out[count + 1] = at, behind
            count += 2
        at = behind + stride
    return count, at
