"""Codecs: the compressions of a page that makedumpfile knows, each from a library.

    zlib    ISA-L (isal) where it is installed, three times as fast, else the standard library
    lzo     liblzo2 through ctypes; there is no wheel of it
    snappy  libsnappy through ctypes, else cramjam
    zstd    zstandard

Which library serves does not depend on numba. Where numba is there as well, a loop without the GIL
calls the same library's C function for many pages at once (phypan.kernels.pack), because of small
pages a call from Python costs as much as compressing them. `Native` is what it needs for that.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from phypan.errors import BadRecord, Unsupported
from phypan.formats.kdump import LZO, RAW, SNAPPY, ZLIB, ZSTD

Bytes = bytes | bytearray | memoryview
Compress = Callable[[Bytes], bytes]
Decompress = Callable[[Bytes, int], bytes]
ZLIB_LEVEL, ZSTD_LEVEL = 1, 1  # makedumpfile's: speed before size
# Of ISA-L. At levels 1 and 2 the first byte's code hashes a register that it has not set, and so
# the output depends on where the stream lies in memory (igzip_icf_body_h1_gr_bt.asm).
ISAL_LEVEL = 3
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


def _damaged(name: str, reason: object) -> BadRecord:
    return BadRecord(f"{name}: {reason}", where=WHERE)


def _sized(name: str, page: bytes, size: int) -> bytes:
    if len(page) != size:
        raise _damaged(name, f"holds {len(page)} bytes, a page has {size}")
    return page


def _raw() -> Codec:
    def decompress(stored: Bytes, size: int) -> bytes:
        return _sized("none", bytes(stored), size)

    native = Native(RAW, 0, lambda: (0, None))
    return Codec("none", RAW, "none", lambda: bytes, lambda: decompress, native)


def _zlib() -> Codec:
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
            raise _damaged("zlib", problem) from problem
        if not stream.eof or stream.unused_data:
            raise _damaged("zlib", "the stream does not end with the page")
        return _sized("zlib", page, size)

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
                raise _damaged("zlib", f"ISA-L gives status {status} for {memory!r}")
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
    library = _library(path)
    names = ("isal_deflate_stateless", "isal_deflate_reset", "isal_deflate_stateless_init")
    deflate, reset, prepare = (_address(library, name) for name in names)
    return _Isal(library, deflate, reset) if deflate and reset and prepare else None


def _lzo() -> Codec:
    library = _library("liblzo2.so.2")
    if library is None:
        raise Unsupported(
            "no LZO library",
            hint="install liblzo2 (Debian: liblzo2-2, Fedora and RHEL: lzo)",
        )

    def workspace() -> tuple[int, object]:
        work = ctypes.create_string_buffer(_LZO_WORK)
        return ctypes.addressof(work), work

    def compressor() -> Compress:
        call = _Call("lzo", library.lzo1x_1_compress, workspace()[1])
        return lambda page: call(page, _lzo_most(len(page)))

    def decompressor() -> Decompress:
        call = _Call("lzo", library.lzo1x_decompress_safe, None)
        return lambda stored, size: _sized("lzo", call(stored, size), size)

    native = Native(LZO, _address(library, "lzo1x_1_compress"), workspace)
    return Codec("lzo", LZO, "liblzo2", compressor, decompressor, native)


_LZO_WORK = 16384 * 8  # LZO1X_1_MEM_COMPRESS, of a 64-bit machine (lzo1x.h)


def _lzo_most(size: int) -> int:
    return size + size // 16 + 64 + 3  # LZO.FAQ


def _snappy() -> Codec:
    library = _library("libsnappy.so.1")
    if library is None:
        return _cramjam_snappy()

    def compressor() -> Compress:
        call = _Call("snappy", library.snappy_compress)
        return lambda page: call(page, _snappy_most(len(page)))

    def decompressor() -> Decompress:
        call = _Call("snappy", library.snappy_uncompress)
        return lambda stored, size: _sized("snappy", call(stored, size), size)

    native = Native(SNAPPY, _address(library, "snappy_compress"), lambda: (0, None))
    return Codec("snappy", SNAPPY, "libsnappy", compressor, decompressor, native)


def _snappy_most(size: int) -> int:
    return 32 + size + size // 6  # snappy.h, MaxCompressedLength


def _cramjam_snappy() -> Codec:
    from cramjam import DecompressionError, snappy

    def compress(page: Bytes) -> bytes:
        return bytes(snappy.compress_raw(page))

    def decompress(stored: Bytes, size: int) -> bytes:
        page = bytearray(size)
        try:
            count = snappy.decompress_raw_into(stored, page)
        except DecompressionError as problem:
            raise _damaged("snappy", problem) from problem
        return _sized("snappy", bytes(page[:count]), size)

    return Codec("snappy", SNAPPY, "cramjam", lambda: compress, lambda: decompress)


def _zstd() -> Codec:
    try:
        import zstandard
    except ImportError as error:
        raise Unsupported("no zstd library", hint="pip install zstandard") from error

    def compressor() -> Compress:
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress

    def decompressor() -> Decompress:
        context = zstandard.ZstdDecompressor(max_window_size=1 << 27)

        def decompress(stored: Bytes, size: int) -> bytes:
            try:
                # The size that the frame tells would be allocated before it is looked at.
                told = zstandard.frame_content_size(stored)
                if told > size:
                    raise _damaged("zstd", f"holds {told} bytes, a page has {size}")
                page = context.decompress(stored, max_output_size=size, allow_extra_data=False)
            except zstandard.ZstdError as problem:
                raise _damaged("zstd", problem) from problem
            return _sized("zstd", page, size)

        return decompress

    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    return Codec("zstd", ZSTD, f"zstandard {version}", compressor, decompressor, _zstd_native())


def _zstd_native() -> Native | None:
    """The same libzstd, in the wheel's other extension module, which exports it."""
    from importlib.util import find_spec

    found = find_spec("zstandard._cffi")
    library: Any = _library(found.origin) if found and found.origin else None
    address = _address(library, "ZSTD_compressCCtx")
    if not address:
        return None
    library.ZSTD_createCCtx.restype = ctypes.c_void_p
    library.ZSTD_freeCCtx.argtypes = [ctypes.c_void_p]

    class Context:
        def __init__(self) -> None:
            self.address = library.ZSTD_createCCtx()

        def __del__(self) -> None:
            library.ZSTD_freeCCtx(self.address)

    def workspace() -> tuple[int, object]:
        context = Context()
        return context.address, context

    return Native(ZSTD, address, workspace)


def _library(name: str) -> Any:
    """A shared library, or None if it is not here; its functions return int unless told else."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _address(library: Any, name: str) -> int:
    function = getattr(library, name, None) if library is not None else None
    return (ctypes.cast(function, ctypes.c_void_p).value or 0) if function is not None else 0


class _Call:
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
            raise _damaged(self._name, f"status {status}")
        return ctypes.string_at(self._out, self._size.value)


_MAKERS: Mapping[str, tuple[int, Callable[[], Codec]]] = {
    "none": (RAW, _raw), "zlib": (ZLIB, _zlib), "lzo": (LZO, _lzo), "snappy": (SNAPPY, _snappy),
    "zstd": (ZSTD, _zstd),
}  # fmt: skip
NAMES = tuple(_MAKERS)


@cache
def named(name: str) -> Codec:
    """The codec of a name; Unsupported, with what to install, if its library is not here."""
    if name not in _MAKERS:
        raise Unsupported(f"no compression {name!r}", hint=f"there are: {', '.join(NAMES)}")
    return _MAKERS[name][1]()


def flagged(flag: int) -> Codec:
    """The codec of the flags of a page descriptor; BadRecord if no codec has them."""
    for name, (own, _) in _MAKERS.items():
        if own == flag:
            return named(name)
    raise BadRecord(f"flags {flag:#x}, which no compression has", where="page descriptor")


@cache
def crc32() -> Callable[[Bytes], int]:
    """The fastest CRC-32 that is here: ISA-L's, else the standard library's."""
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
        return _address(_library("libz.so.1"), "crc32")
    return _address(_library(isal_zlib.__file__), "crc32_gzip_refl")
