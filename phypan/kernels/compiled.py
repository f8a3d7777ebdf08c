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
from numba.extending import intrinsic, overload, register_jitable

from phypan.kernels import hashed, segments, struct_page, tables, words
from phypan.kernels import leaves as leaves_module

_njit: Any = numba.njit
_intrinsic: Any = intrinsic


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


def _helpers(module: ModuleType) -> list[Callable[..., Any]]:
    primitives = (words.u64, words.i64, words.load)
    return [
        function
        for _, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and function not in primitives
    ]


for _module in (words, tables, leaves_module, segments, hashed, struct_page):
    for _function in _helpers(_module):
        register_jitable(_function)

tables_many = _njit(cache=True, nogil=True)(tables.many)
leaves = _njit(cache=True, nogil=True)(leaves_module.leaves)
hashed_many = _njit(cache=True, nogil=True)(hashed.many)
hashed_scan = _njit(cache=True, nogil=True)(hashed.scan)
hashed_occupancy = _njit(cache=True, nogil=True)(hashed.occupancy)
classify = _njit(cache=True, nogil=True)(struct_page.classify)
