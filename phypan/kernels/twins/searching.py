"""Slow twins of phypan.kernels.searching, written apart: over bytes, numpy arrays, and sre."""

from __future__ import annotations

import re
from array import array
from typing import Any


def pattern(data: bytes, first: int, last: int, needle: bytes) -> list[int]:
    """Indexes from `first` to before `last` at which `needle` stands."""
    found, at = [], data.find(needle, first, last + len(needle) - 1)
    while at >= 0:
        found.append(at)
        at = data.find(needle, at + 1, last + len(needle) - 1)
    return found


def numbers(data: Any, size: int, big: bool, low: int, high: int) -> list[int]:
    """Indexes of words of `size` bytes from `low` to `high`."""
    try:
        import numpy as np
    except ImportError:
        import sys

        words = array("Q" if size == 8 else "I", bytes(data))
        if big != (sys.byteorder == "big"):
            words.byteswap()
        return [index for index, word in enumerate(words) if low <= word <= high]
    values = np.frombuffer(data, f"{'>' if big else '<'}u{size}")
    found: list[int] = np.flatnonzero((values >= low) & (values <= high)).tolist()
    return found


def texts(data: Any, first: int, stride: int, letter: int, least: int) -> list[tuple[int, int]]:
    """(index of the first byte, of the first behind it) of each run, as the kernel has them.

    The first and the last are told however short they are, where they touch the border.
    """
    count = max(0, len(data) - first) // stride
    letters = bytes(data[first + letter : first + count * stride : stride])
    if stride == 2:  # what is 0 beside a letter becomes ones, and takes away the others
        beside = bytes(data[first + 1 - letter : first + count * stride : stride])
        mask = beside.translate(b"\xff" + bytes(255))
        both = int.from_bytes(letters, "big") & int.from_bytes(mask, "big")
        letters = both.to_bytes(count, "big")
    found = []
    for match in re.finditer(rb"[\t\x20-\x7e]+", letters):
        start, end = match.span()
        if end - start >= least or start == 0 or end == count:
            found.append((first + start * stride, first + end * stride))
    return found
