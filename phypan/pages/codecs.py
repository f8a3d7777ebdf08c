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
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from phypan.errors import BadRecord, Unsupported
from phypan.formats.kdump import LZO, RAW, SNAPPY, ZLIB, ZSTD
from phypan.pages.codec import (
    Bytes,
    Call,
    Codec,
    Compress,
    Decompress,
    Native,
    address_of,
    damaged,
    load,
    sized,
)
from phypan.pages.zlib_codec import zlib_codec

ZSTD_LEVEL = 1  # makedumpfile's: speed before size


def _raw() -> Codec:
    def decompress(stored: Bytes, size: int) -> bytes:
        return sized("none", bytes(stored), size)

    native = Native(RAW, 0, lambda: (0, None))
    return Codec("none", RAW, "none", lambda: bytes, lambda: decompress, native)


def _lzo() -> Codec:
    library = load("liblzo2.so.2")
    if library is None:
        raise Unsupported(
            "no LZO library",
            hint="install liblzo2 (Debian: liblzo2-2, Fedora and RHEL: lzo)",
        )

    def workspace() -> tuple[int, object]:
        work = ctypes.create_string_buffer(_LZO_WORK)
        return ctypes.addressof(work), work

    def compressor() -> Compress:
        call = Call("lzo", library.lzo1x_1_compress, workspace()[1])
        return lambda page: call(page, _lzo_most(len(page)))

    def decompressor() -> Decompress:
        call = Call("lzo", library.lzo1x_decompress_safe, None)
        return lambda stored, size: sized("lzo", call(stored, size), size)

    native = Native(LZO, address_of(library, "lzo1x_1_compress"), workspace)
    return Codec("lzo", LZO, "liblzo2", compressor, decompressor, native)


_LZO_WORK = 16384 * 8  # LZO1X_1_MEM_COMPRESS, of a 64-bit machine (lzo1x.h)


def _lzo_most(size: int) -> int:
    return size + size // 16 + 64 + 3  # LZO.FAQ


def _snappy() -> Codec:
    library = load("libsnappy.so.1")
    if library is None:
        return _cramjam_snappy()

    def compressor() -> Compress:
        call = Call("snappy", library.snappy_compress)
        return lambda page: call(page, _snappy_most(len(page)))

    def decompressor() -> Decompress:
        call = Call("snappy", library.snappy_uncompress)
        return lambda stored, size: sized("snappy", call(stored, size), size)

    native = Native(SNAPPY, address_of(library, "snappy_compress"), lambda: (0, None))
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
            raise damaged("snappy", problem) from problem
        return sized("snappy", bytes(page[:count]), size)

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
                    raise damaged("zstd", f"holds {told} bytes, a page has {size}")
                page = context.decompress(stored, max_output_size=size, allow_extra_data=False)
            except zstandard.ZstdError as problem:
                raise damaged("zstd", problem) from problem
            return sized("zstd", page, size)

        return decompress

    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    return Codec("zstd", ZSTD, f"zstandard {version}", compressor, decompressor, _zstd_native())


def _zstd_native() -> Native | None:
    """The same libzstd, in the wheel's other extension module, which exports it."""
    from importlib.util import find_spec

    found = find_spec("zstandard._cffi")
    library: Any = load(found.origin) if found and found.origin else None
    address = address_of(library, "ZSTD_compressCCtx")
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


_MAKERS: Mapping[str, tuple[int, Callable[[], Codec]]] = {
    "none": (RAW, _raw),
    "zlib": (ZLIB, zlib_codec),
    "lzo": (LZO, _lzo),
    "snappy": (SNAPPY, _snappy),
    "zstd": (ZSTD, _zstd),
}
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
