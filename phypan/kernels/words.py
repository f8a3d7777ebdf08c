"""64-bit words out of memory that lies in extents: the primitives of the scalar kernels.

The extents are three arrays, sorted and without overlaps: `starts` and `ends` (physical addresses;
the end is the first one behind), and `bases`, which says where the bytes are. Under numba they are
arrays of uint64 and a base is a pointer; under plain Python lists, and a base is a memoryview.
kernels/compiled.py has the numba form of the first four functions; all else is compiled as it is.
"""

from __future__ import annotations

from typing import Any, Protocol


class Words(Protocol):
    """An array of 64-bit words: numpy's, or array.array("Q"), or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def u64(value: int) -> int:
    """`value` as an unsigned 64-bit word: numba would mix signed and unsigned ones into floats."""
    return value


def i64(value: int) -> int:
    """`value` as a signed integer: an index, a count."""
    return value


def load(bases: Any, index: int, offset: int, big: int) -> int:
    """The 64-bit word `offset` bytes into extent `index`, big-endian unless `big` is 0.

    The caller has checked, with `find`, that all eight bytes are inside of the extent.
    """
    return int.from_bytes(bases[index][offset : offset + 8], "big" if big else "little")


def prefetch(bases: Any, index: int, offset: int) -> None:
    """Say that the word `offset` bytes into extent `index` will be read soon."""


def last_not_above(sorted_values: Words, value: int) -> int:
    """Index of the last of the sorted values that is not greater than `value`; -1 if none is."""
    low = 0
    high = len(sorted_values)
    while low < high:
        middle = (low + high) >> 1
        if sorted_values[middle] <= value:
            low = middle + 1
        else:
            high = middle
    return low - 1


def find(starts: Words, ends: Words, address: int) -> int:
    """Index of the extent that holds the eight bytes at `address`; -1 if none does."""
    index = last_not_above(starts, address)
    if index >= 0 and address < ends[index] and ends[index] - address >= u64(8):
        return index
    return -1
