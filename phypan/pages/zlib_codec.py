"""zlib, and CRC-32: ISA-L where it is installed, three times as fast, else the standard library."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from phypan.formats.kdump import ZLIB
from phypan.pages.codec import (
    Bytes,
    Codec,
    Compress,
    Native,
    address_of,
    damaged,
    load,
    sized,
)

ZLIB_LEVEL = 1  # makedumpfile's: speed before size
# Of ISA-L. At levels 1 and 2 the first byte's code hashes a register that it has not set, and so
# the output depends on where the stream lies in memory (igzip_icf_body_h1_gr_bt.asm).
ISAL_LEVEL = 3


def zlib_codec() -> Codec:
    """The codec, by the faster of the two."""
    library: Any = zlib
    name, isal = f"zlib {zlib.ZLIB_RUNTIME_VERSION}", None
    with suppress(ImportError):
        from isal import isal_zlib

        library, name, isal = isal_zlib, "ISA-L (isal)", _isal(isal_zlib.__file__)

    def compress(page: Bytes) -> bytes:
        return bytes(library.compress(page, ISAL_LEVEL if library is not zlib else ZLIB_LEVEL))

    def decompress(stored: Bytes, size: int) -> bytes:
        stream = library.decompressobj()
        try:
            page = stream.decompress(stored, size + 1)
        except library.error as problem:
            raise damaged("zlib", problem) from problem
        if not stream.eof or stream.unused_data:
            raise damaged("zlib", "the stream does not end with the page")
        return sized("zlib", page, size)

    if isal is None:
        return Codec("zlib", ZLIB, name, lambda: compress, lambda: decompress)
    deflate = isal
    native = Native(ZLIB, deflate.deflate, deflate.workspace)
    return Codec("zlib", ZLIB, name, deflate.compressor, lambda: decompress, native)


@dataclass(frozen=True)
class _Isal:
    """The functions of ISA-L that compress a page, by their addresses.

    They are called rather than isal_zlib.compress(), which chooses another buffer, and so other
    bytes than the loop of kernels.pack.
    """

    library: Any
    deflate: int
    reset: int

    def workspace(self) -> tuple[int, object]:
        """The address of isal_deflate_reset(), and behind it a stream with all it needs."""
        memory = ctypes.create_string_buffer(8 + _ISAL_STREAM + _ISAL_BUFFER)
        start = ctypes.addressof(memory)
        ctypes.c_uint64.from_address(start).value = self.reset
        stream = start + 8
        self.library.isal_deflate_stateless_init(ctypes.c_void_p(stream))
        for offset, kind, value in (  # struct isal_zstream (igzip_lib.h)
            (40, ctypes.c_uint32, ISAL_LEVEL),  # level
            (44, ctypes.c_uint32, _ISAL_BUFFER),  # level_buf_size
            (48, ctypes.c_uint64, stream + _ISAL_STREAM),  # level_buf
            (56, ctypes.c_uint16, 1),  # end_of_stream
            (60, ctypes.c_uint16, 3),  # gzip_flag: IGZIP_ZLIB
        ):
            kind.from_address(stream + offset).value = value
        return start, memory

    def compressor(self) -> Compress:
        """One page after the other, through a stream of its own."""
        start, memory = self.workspace()
        stream = ctypes.c_void_p(start + 8)
        fields = _IsalFields.from_address(start + 8)
        out = ctypes.create_string_buffer(0)

        def compress(page: Bytes) -> bytes:
            nonlocal out
            data, most = bytes(page), len(page) + len(page) // 8 + 256
            if len(out) < most:
                out = ctypes.create_string_buffer(most)
            self.library.isal_deflate_reset(stream)
            fields.next_in, fields.avail_in = data, len(data)
            fields.next_out, fields.avail_out = ctypes.addressof(out), most
            if status := self.library.isal_deflate_stateless(stream):
                raise damaged("zlib", f"ISA-L gives status {status} for {memory!r}")
            return ctypes.string_at(out, fields.total_out)

        return compress


class _IsalFields(ctypes.Structure):
    _fields_ = (
        ("next_in", ctypes.c_char_p), ("avail_in", ctypes.c_uint32), ("total_in", ctypes.c_uint32),
        ("next_out", ctypes.c_void_p), ("avail_out", ctypes.c_uint32),
        ("total_out", ctypes.c_uint32),
    )  # fmt: skip


_ISAL_STREAM, _ISAL_BUFFER = 1 << 18, 1 << 20  # bytes, with room to spare


def _isal(path: str) -> _Isal | None:
    """ISA-L inside of the extension module, if it exports its functions."""
    library = load(path)
    names = ("isal_deflate_stateless", "isal_deflate_reset", "isal_deflate_stateless_init")
    deflate, reset, prepare = (address_of(library, name) for name in names)
    return _Isal(library, deflate, reset) if deflate and reset and prepare else None


@cache
def crc32() -> Callable[..., int]:
    """The fastest CRC-32 that is here: ISA-L's, else the standard library's; as zlib.crc32."""
    try:
        from isal.isal_zlib import crc32 as fast
    except ImportError:
        return zlib.crc32
    return fast


def crc32_address() -> int:
    """The address of a C function crc32(start, data, size) of 64-bit arguments; 0 if none is."""
    try:
        from isal import isal_zlib
    except ImportError:
        return address_of(load("libz.so.1"), "crc32")
    return address_of(load(isal_zlib.__file__), "crc32_gzip_refl")
