"""The scalar kernels, compiled by numba.

Imported at the first call of a kernel in that mode. Machine code is kept on disk, so that only the
first run on a host compiles. The kernels release the GIL.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, options
from numba.extending import intrinsic, overload, register_jitable

from phypan.kernels import (
    hashed,
    hashscan,
    many,
    searching,
    segments,
    struct_page,
    tables,
    words,
)
from phypan.kernels import leaves as leaves_module

_njit: Any = numba.njit
_intrinsic: Any = intrinsic
_declared: Any = cgutils.get_or_insert_function


@_intrinsic  # type: ignore[untyped-decorator]
def _peek(typing_context: Any, address: Any) -> Any:
    """The 64-bit word at a pointer, of any alignment, in this host's byte order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        value = builder.load(pointer)
        value.align = 1
        return value

    return types.uint64(types.uint64), generate


@_intrinsic  # type: ignore[untyped-decorator]
def _swapped(typing_context: Any, value: Any) -> Any:
    """A 64-bit word with its bytes in the other order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), generate


@_intrinsic  # type: ignore[untyped-decorator]
def _ask_for(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at a pointer, to be read and kept."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        octets, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [octets, number, number, number])
        function = _declared(builder.module, kind, "llvm.prefetch.p0")
        pointer = builder.inttoptr(arguments[0], octets)
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [pointer, read, keep, data])
        return context.get_dummy_value()

    return types.none(types.uint64), generate


# numba compares the signatures of these with their implementations', annotations and all.
@overload(words.u64)
def _u64(value):  # type: ignore[no-untyped-def]
    return lambda value: np.uint64(value)  # noqa: PLW0108 - numba wants a function


@overload(words.i64)
def _i64(value):  # type: ignore[no-untyped-def]
    return lambda value: np.int64(value)  # noqa: PLW0108


@overload(words.load)
def _load(bases, index, offset, big):  # type: ignore[no-untyped-def]
    host_is_big = sys.byteorder == "big"

    def load(bases, index, offset, big):  # type: ignore[no-untyped-def]
        value = _peek(bases[index] + np.uint64(offset))
        return value if (big != 0) == host_is_big else _swapped(value)

    return load


@overload(words.zeros)
def _zeros(bases, index, offset, count):  # type: ignore[no-untyped-def]
    def zeros(bases, index, offset, count):  # type: ignore[no-untyped-def]
        at = bases[index] + np.uint64(offset)
        for n in range(count):
            if _peek(at + np.uint64(8) * np.uint64(n)) != np.uint64(0):
                return n
        return count

    return zeros


@overload(words.prefetch)
def _prefetch(bases, index, offset):  # type: ignore[no-untyped-def]
    def prefetch(bases, index, offset):  # type: ignore[no-untyped-def]
        _ask_for(bases[index] + np.uint64(offset))

    return prefetch


def _helpers(module: ModuleType) -> list[Callable[..., Any]]:
    primitives = (words.u64, words.i64, words.load, words.zeros, words.prefetch)
    return [
        function
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function not in primitives
    ]


# Counting references of arrays at each call of a helper would be most of the work. The kernels
# allocate nothing and keep nothing, so that they need no support for that at run time.
_OPTIONS = {"_nrt": False} if hasattr(options.DefaultOptions, "_nrt") else {"nogil": True}

for _module in (
    words,
    tables,
    many,
    leaves_module,
    segments,
    hashed,
    hashscan,
    struct_page,
    searching,
):
    for _function in _helpers(_module):
        register_jitable(**_OPTIONS)(_function)


def _compiled(function: Callable[..., Any]) -> Any:
    return _njit(**{**_OPTIONS, "cache": True, "nogil": True})(function)


tables_many = _compiled(many.many)
leaves = _compiled(leaves_module.leaves)
hashed_many = _compiled(hashed.many)
hashed_scan = _compiled(hashscan.scan)
hashed_occupancy = _compiled(hashscan.occupancy)
classify = _compiled(struct_page.classify)
find_pattern = _compiled(searching.pattern)
find_numbers = _compiled(searching.numbers)
find_texts = _compiled(searching.texts)
