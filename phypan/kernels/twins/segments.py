"""Twin of kernels/segments.py, over Python's own integers: slow, obvious, exact."""

from __future__ import annotations

import numpy as np

from phypan.kernels.segments import (
    BITS,
    ESID_BITS,
    FIRST_CONTEXT,
    KERNEL,
    LINEAR_CONTEXTS,
    LINEAR_SHIFT,
    MULTIPLIER,
    NIBBLE,
    NO_VSID,
    REGION_SHIFT,
    REGIONS,
    SEGMENT_SHIFT,
    VIRTUAL_START,
    WHOLE,
    WHOLE_AND_TOP,
)
from phypan.kernels.twins.words import Array


def vsids(scheme: Array, row: int, context: int, addresses: Array) -> Array:
    """The VSID of each effective address; NO_VSID where there is none."""
    high = addresses >> scheme[row + SEGMENT_SHIFT]  # distinct segments are few
    distinct, back = np.unique(high, return_inverse=True)
    shift = int(scheme[row + SEGMENT_SHIFT])
    numbers = [_vsid(scheme, row, context, int(number) << shift) for number in distinct]
    return np.array(numbers, np.uint64)[back.reshape(-1)]


def _vsid(scheme: Array, row: int, context: int, address: int) -> int:
    protos = [proto for proto in _protos(scheme, row, context, address) if proto is not None]
    if not protos:
        return NO_VSID
    modulus = (1 << int(scheme[row + BITS])) - 1
    return protos[0] * int(scheme[row + MULTIPLIER]) % modulus


def _protos(scheme: Array, row: int, context: int, address: int) -> list[int | None]:
    shift, esid_bits = int(scheme[row + SEGMENT_SHIFT]), int(scheme[row + ESID_BITS])
    esid = (address >> shift) % (1 << esid_bits)
    if address >> 60 < 0xC:
        return [(context << esid_bits) + esid if address >> shift == esid else None]
    kind = int(scheme[KERNEL])
    if kind == WHOLE:
        return [address >> shift]
    if kind == WHOLE_AND_TOP:
        return [(address >> shift) | 1 << (int(scheme[row + BITS]) - 1)]
    number = kernel_context(scheme, address)
    return [None if number is None else (number << esid_bits) + esid]


def kernel_context(scheme: Array, address: int) -> int | None:
    """The context that kernels since 3.9 give a kernel address; None if it has none."""
    first, linear = int(scheme[FIRST_CONTEXT]), int(scheme[LINEAR_CONTEXTS])
    if int(scheme[KERNEL]) == NIBBLE:
        return first + (address >> 60) - 0xC
    start = int(scheme[VIRTUAL_START])
    if address < start:
        piece = (address - 0xC000000000000000) >> int(scheme[LINEAR_SHIFT])
        return first + piece if piece < linear else None
    region = (address - start) >> int(scheme[REGION_SHIFT])
    return first + linear + region if region < int(scheme[REGIONS]) else None
