"""What a codec is, and how functions of C libraries become one."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phypan.errors import BadRecord

Bytes = bytes | bytearray | memoryview
Compress = Callable[[Bytes], bytes]
Decompress = Callable[[Bytes, int], bytes]
WHERE = "compressed page"


@dataclass(frozen=True)
class Native:
    """The C function behind a codec.

    kind       how it is called: a number of phypan.kernels.pack
    function   its address
    workspace  makes what one thread needs to call it: the address, and what keeps that alive
    """

    kind: int
    function: int
    workspace: Callable[[], tuple[int, object]]


@dataclass(frozen=True)
class Codec:
    """A way to compress pages.

    name          as `phypan convert --compress` takes it
    flag          in page descriptors
    library       what does it, for a person
    compressor    makes a function for one thread: page -> stored bytes, which may be longer
    decompressor  makes a function for one thread: (stored bytes, bytes in a page) -> page. It
                  raises BadRecord if that is not what they hold, and never makes more than a page
    native        None where numba cannot call it
    """

    name: str
    flag: int
    library: str
    compressor: Callable[[], Compress]
    decompressor: Callable[[], Decompress]
    native: Native | None = None


def damaged(name: str, reason: object) -> BadRecord:
    """The error for a page that the codec `name` does not understand."""
    return BadRecord(f"{name}: {reason}", where=WHERE)


def sized(name: str, page: bytes, size: int) -> bytes:
    """`page`, if it has `size` bytes."""
    if len(page) != size:
        raise damaged(name, f"holds {len(page)} bytes, a page has {size}")
    return page


def load(name: str) -> Any:
    """A shared library, or None if it is not here; its functions return int unless told else."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def address_of(library: Any, name: str) -> int:
    """The address of a function of a library; 0 if it has none of that name, or there is none."""
    function = getattr(library, name, None) if library is not None else None
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function is not None else 0


class Call:
    """function(data, size, out, &out_size, ...) of a C library, for one thread."""

    def __init__(self, name: str, function: Any, *more: object) -> None:
        self._name, self._function, self._more = name, function, more
        self._out = ctypes.create_string_buffer(0)
        self._size = ctypes.c_size_t()

    def __call__(self, data: Bytes, most: int) -> bytes:
        """What it makes of `data`, `most` bytes at the most; BadRecord if it refuses."""
        if len(self._out) < most:
            self._out = ctypes.create_string_buffer(most)
        data, self._size.value = bytes(data), most
        length = ctypes.c_size_t(len(data))
        if status := self._function(data, length, self._out, ctypes.byref(self._size), *self._more):
            raise damaged(self._name, f"status {status}")
        return ctypes.string_at(self._out, self._size.value)
