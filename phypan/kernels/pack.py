"""Pages to stored pages, many at a time, without the GIL: numba calls the codec's C function.

Of small pages a call from Python costs as much as compressing them. Hosts without numba, and codecs
without a C function (see codec.Native), take the loop over Python calls in phypan.pages.packing,
which gives the same bytes.

Every C function is called with 64-bit arguments, as the ABIs of 64-bit machines pass them; of a
32-bit result only the low half counts.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

from phypan.formats.kdump import LZO, RAW, SNAPPY, ZLIB, ZSTD

_njit: Any = numba.njit(cache=True, nogil=True)
_intrinsic: Any = intrinsic
_declared: Any = get_or_insert_function
_WORD = ir.IntType(64)
_STRIDE = 512  # bytes that are looked at before it is asked whether there was one that is not zero
LEVEL = 1  # of zstd
# Fields of ISA-L's struct isal_zstream (igzip_lib.h)
_NEXT_IN, _AVAIL_IN, _NEXT_OUT, _AVAIL_OUT, _TOTAL_OUT = 0, 8, 16, 24, 28


def _call(words: int) -> Any:
    """An intrinsic that calls the C function at its first argument with `words` words."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD] * words)
        function = builder.inttoptr(arguments[0], kind.as_pointer())
        return builder.call(function, arguments[1:])

    return types.int64(types.int64, *[types.int64] * words), generate


@_intrinsic
def _call1(context: Any, function: Any, a: Any) -> Any:
    return _call(1)


@_intrinsic
def _call3(context: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(3)


@_intrinsic
def _call4(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    return _call(4)


@_intrinsic
def _call5(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    return _call(5)


@_intrinsic
def _call6(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    return _call(6)


def _access(width: int, write: bool) -> Any:
    """An intrinsic that loads or stores `width` bits at an address, in the host's byte order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(width).as_pointer())
        if not write:
            value = builder.load(pointer)
            value.align = 1
            return builder.zext(value, _WORD) if width < 64 else value
        value = builder.trunc(arguments[1], ir.IntType(width)) if width < 64 else arguments[1]
        builder.store(value, pointer).align = 1
        return arguments[1]

    more = [types.int64] if write else []
    return types.int64(types.int64, *more), generate


@_intrinsic
def _load32(context: Any, address: Any) -> Any:
    return _access(32, False)


@_intrinsic
def _load64(context: Any, address: Any) -> Any:
    return _access(64, False)


@_intrinsic
def _store32(context: Any, address: Any, value: Any) -> Any:
    return _access(32, True)


@_intrinsic
def _store64(context: Any, address: Any, value: Any) -> Any:
    return _access(64, True)


@_intrinsic
def _any_bit(context: Any, address: Any) -> Any:
    """The OR of the words in the _STRIDE bytes at an address: in as few loads as the host can."""
    words = ir.VectorType(_WORD, _STRIDE // 8)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[0], words.as_pointer()))
        value.align = 1
        kind = ir.FunctionType(_WORD, [words])
        reduce = _declared(builder.module, kind, f"llvm.vector.reduce.or.v{words.count}i64")
        return builder.call(reduce, [value])

    return types.int64(types.int64), generate


@_njit
def _copy(source: int, target: int, size: int) -> None:
    for at in range(0, size, 8):  # pages are whole words
        _store64(target + at, _load64(source + at))


@_njit
def is_zero(page: int, size: int) -> bool:
    """Whether the `size` bytes at address `page` are zeros; a multiple of _STRIDE."""
    if _load64(page) != 0:
        return False
    # In so few rounds that the processor foresees the last of a 4K page, and is reading the next
    # one already: with a word or a cache line in each it stands still at every page's end.
    for start in range(page, page + size, _STRIDE):  # noqa: SIM110 - numba knows no all()
        if _any_bit(start) != 0:
            return False
    return True


@_njit
def zeros(pages: Any, size: int, out: Any) -> None:
    """Which pages hold nothing but zeros.

    pages  uint8[out.size * size], aligned to 8 bytes
    out    uint8[], overwritten with 1 for such a page, else 0
    """
    start = pages.ctypes.data
    for page in range(out.size):
        out[page] = is_zero(start + page * size, size)


@_njit
def _compress(
    flag: int, function: int, work: int, page: int, size: int, out: int, room: int, scratch: int
) -> Any:
    """Bytes that the page at address `page` takes at address `out`; 0 if it could not be done."""
    if flag == LZO:
        _call5(function, page, size, out, scratch, work)
        return _load64(scratch)
    if flag == SNAPPY:
        _store64(scratch, room)
        failed = _call4(function, page, size, out, scratch) & 0xFFFFFFFF
        return 0 if failed else _load64(scratch)
    if flag == ZSTD:
        count = _call6(function, work, out, room, page, size, LEVEL)
        return count if 0 < count <= room else 0
    if flag == ZLIB:
        stream = work + 8
        _call1(_load64(work), stream)  # isal_deflate_reset
        _store64(stream + _NEXT_IN, page)
        _store32(stream + _AVAIL_IN, size)
        _store64(stream + _NEXT_OUT, out)
        _store32(stream + _AVAIL_OUT, room)
        failed = _call1(function, stream) & 0xFFFFFFFF
        return 0 if failed else _load32(stream + _TOTAL_OUT)
    return 0


@_njit
def _head_checksum(crc: int, pfn: int, size: int, flags: int, scratch: int) -> Any:
    """formats.kdump.checksum() but for the stored bytes; `scratch` is the address of 16 bytes."""
    _store64(scratch, pfn)
    _store32(scratch + 8, size)
    _store32(scratch + 12, flags)
    return _call3(crc, 0, scratch, 16) & 0xFFFFFFFF


@_njit
def pack(
    flag: int,
    function: int,
    work: int,
    crc: int,
    zero_crc: int,
    pages: int,
    size: int,
    pfns: Any,
    known: Any,
    scratch: Any,
    sizes: Any,
    flags: Any,
    checksums: Any,
    out: Any,
) -> int:
    """Compress pages and put what is to be stored of them into `out`, one behind the other.

    flag, function, work  of the codec (codec.Native)
    crc        address of a C function crc32(start, data, size)
    zero_crc   CRC-32 of a page of zeros
    pages      address of pfns.size * size bytes
    size       bytes in a page
    pfns       int64[], page frame numbers
    known      uint8[], 1 for pages that are zeros, of which `pages` is not looked at
    scratch    uint8[16]
    sizes      int64[], overwritten with the bytes stored of each page; 0 of one that is zeros
    flags      uint8[], overwritten with the compression of each page
    checksums  int64[], overwritten with formats.kdump.checksum() of each page
    out        uint8[], at least a page and what its compression may add longer than all pages

    Returns the bytes put into `out`. A page that does not get smaller is stored as it is.
    """
    room = out.ctypes.data
    held, spare = 0, scratch.ctypes.data
    for index in range(pfns.size):
        page = pages + index * size
        if known[index] or is_zero(page, size):
            sizes[index], flags[index] = 0, RAW
            checksums[index] = _head_checksum(crc, pfns[index], size, RAW, spare) ^ zero_crc
            continue
        at, stored, how = room + held, size, RAW
        if flag != RAW:
            count = _compress(flag, function, work, page, size, at, out.size - held, spare)
            if 0 < count < size:
                stored, how = count, flag
        if how == RAW:
            _copy(page, at, size)
        sizes[index], flags[index] = stored, how
        checksums[index] = _head_checksum(crc, pfns[index], stored, how, spare)
        checksums[index] ^= _call3(crc, 0, at, stored) & 0xFFFFFFFF
        held += stored
    return held
