"""kallsyms: the kernel's own symbol table, compressed, in its read-only data.

Linux scripts/kallsyms.c and kernel/kallsyms.c, as since 2.6.10. A name is a length and that many
numbers of tokens, of which there are 256; the first letter of the text is the type that nm prints.
Addresses stand beside the names in the same order:

    absolute  kallsyms_addresses, 8 bytes each                                   until 6.10
    relative  kallsyms_offsets, unsigned 4 bytes each, from kallsyms_relative_base   4.6 to 6.19
    per-CPU   the same, signed: a negative one is base - 1 - offset, others are absolute
    place     signed 4 bytes each, from the place where they stand               since 7.0

The addresses come first, then the number of symbols and the names; since 6.4 they come last.
Integers are in the byte order of the kernel; 64-bit kernels only.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from phypan.errors import BadRecord
from phypan.formats._records import STRUCT_ORDER, ByteOrder, Bytes, align

TOKENS = 256
INDEX_SIZE = 2 * TOKENS  # bytes of kallsyms_token_index
GROUP = 256  # names from one marker to the next
MAX_NAME = 2048  # bytes of text in a name: the kernel's limit is 512
MAX_SYMBOLS = 1 << 23
# Digits stand for themselves, so their tokens are in every table, in this order.
_DIGITS = b"".join(b"%d\0" % digit for digit in range(10))

Encoding = Literal["absolute", "relative", "per-CPU", "place"]


@dataclass(frozen=True)
class Layout:
    """Where the tables are: offsets, or effective addresses.

    addresses  of kallsyms_addresses or kallsyms_offsets
    base       of kallsyms_relative_base; None where there is none
    """

    count: int
    names: int
    token_table: int
    token_index: int
    addresses: int
    base: int | None
    encoding: Encoding | None = None  # None: not known yet

    def moved(self, by: int) -> Layout:
        """The same with `by` added to all places."""
        return Layout(
            self.count,
            self.names + by,
            self.token_table + by,
            self.token_index + by,
            self.addresses + by,
            None if self.base is None else self.base + by,
            self.encoding,
        )


def read_tokens(table: Bytes, index: Bytes, order: ByteOrder) -> list[bytes]:
    """The 256 tokens; BadRecord if the index points beyond the table."""
    data = bytes(table)
    tokens = []
    for start in struct.unpack_from(f"{STRUCT_ORDER[order]}{TOKENS}H", index):
        end = data.find(b"\0", start, start + MAX_NAME)
        if end < 0:
            raise BadRecord(f"a token at {start:#x} has no end", where="kallsyms_token_table")
        tokens.append(data[start:end])
    return tokens


def read_names(data: Bytes, count: int, tokens: Sequence[bytes]) -> list[str]:
    """Up to `count` names, each with its type as its first letter; fewer if the data end before."""
    data, at, end = bytes(data), 0, len(data)
    token, found = tokens.__getitem__, []
    for _ in range(count):
        start, at = _name_at(data, at)
        if at > end:
            break
        text = b"".join(map(token, data[start:at]))
        found.append(text[:MAX_NAME].decode("ascii", "backslashreplace"))
    return found


def _name_at(data: bytes, at: int) -> tuple[int, int]:
    """(start, end) of the tokens of the name at `at`; an end behind the data if there is none."""
    size = data[at : at + 2]
    if len(size) < 2:
        return at, len(data) + 1
    if size[0] & 0x80:  # two bytes since Linux 6.1, for names of Rust
        return at + 2, at + 2 + (size[0] & 0x7F | size[1] << 7)
    return at + 1, at + 1 + size[0]


def read_addresses(
    data: Bytes, count: int, order: ByteOrder, encoding: Encoding, base: int = 0
) -> Sequence[int]:
    """`count` effective addresses.

    base  the value of kallsyms_relative_base; for "place" the address of `data`
    """
    size, letter = (
        (8, "Q") if encoding == "absolute" else (4, "I" if encoding == "relative" else "i")
    )
    if len(data) < size * count:
        raise BadRecord(f"{len(data)} bytes for {count} addresses", where="kallsyms")
    values = struct.unpack_from(f"{STRUCT_ORDER[order]}{count}{letter}", data)
    mask = (1 << 64) - 1
    if encoding == "absolute":
        return array("Q", values)
    if encoding == "place":
        return array("Q", ((base + 4 * n + value) & mask for n, value in enumerate(values)))
    if encoding == "per-CPU":
        return array("Q", (value if value >= 0 else (base - 1 - value) & mask for value in values))
    return array("Q", ((base + value) & mask for value in values))


def find(image: Bytes, order: ByteOrder) -> Iterator[Layout]:
    """The tables in a kernel's image, by their shape; places are offsets in the image.

    How addresses are stored is tried later, on what a reader knows of the kernel: for each place
    that may hold them one Layout comes out, likelier ones first.
    """
    data = bytes(image)
    at = data.find(_DIGITS)
    while at >= 0:
        tables = _tables_around(data, at, order)
        if tables is not None:
            yield from _layouts(data, *tables, order)
        at = data.find(_DIGITS, at + 1)


def _tables_around(data: bytes, digits: int, order: ByteOrder) -> tuple[int, int] | None:
    """Offsets of (token table, token index) when the tokens of the digits are at `digits`."""
    end = digits
    for _ in range(ord("0"), TOKENS):
        end = data.find(b"\0", end, end + MAX_NAME) + 1
        if not end:
            return None
    index_at = align(end, 8)
    if index_at + INDEX_SIZE > len(data):
        return None
    index = struct.unpack_from(f"{STRUCT_ORDER[order]}{TOKENS}H", data, index_at)
    table = digits - index[ord("0")]
    starts = [table + offset for offset in index]
    if index[0] or table < 0 or starts != sorted(set(starts)) or starts[-1] >= end:
        return None
    return (table, index_at) if all(data[start - 1] == 0 for start in starts[1:]) else None


def _layouts(data: bytes, table: int, index: int, order: ByteOrder) -> Iterator[Layout]:
    for width in (4, 8):  # unsigned int since 4.20, unsigned long before
        markers = _markers_before(data, table, width, order)
        if markers is None:
            continue
        start, values = markers
        found = _names_before(data, start, values, order)
        if found is None:
            continue
        count, names = found
        number = names - 8  # kallsyms_num_syms
        behind = align(index + INDEX_SIZE, 8)
        before = number - 8
        offsets = align(4 * count, 8)
        yield Layout(count, names, table, index, behind, behind + offsets)
        yield Layout(count, names, table, index, before - offsets, before)
        yield Layout(count, names, table, index, number - 8 * count, None, "absolute")
        yield Layout(count, names, table, index, behind, None)
        return


def _markers_before(
    data: bytes, end: int, width: int, order: ByteOrder
) -> tuple[int, list[int]] | None:
    """(offset of kallsyms_markers, their values): they rise from 0, and end just before `end`."""
    at = (end - 1) // width * width if end % width else end - width
    values: list[int] = []
    while at >= 0 and len(values) <= MAX_SYMBOLS // GROUP:
        value = int.from_bytes(data[at : at + width], order)
        if values and value >= values[-1]:
            return None
        if value or values:
            values.append(value)
        elif end - at > 8:  # more than the padding up to the next multiple of 8
            return None
        if value == 0 and values:
            return at, values[::-1]
        at -= width
    return None


def _names_before(
    data: bytes, end: int, markers: list[int], order: ByteOrder
) -> tuple[int, int] | None:
    """(number of names, offset of kallsyms_names), which end before `end`."""
    last = markers[-1]
    lowest = max(8, end - last - GROUP * (MAX_NAME + 2))
    for names in range((end - last) // 8 * 8, lowest - 1, -8):
        word = data[names - 8 : names]
        for count in (int.from_bytes(word, order), int.from_bytes(word[:4], order)):
            if not 0 < count <= MAX_SYMBOLS or -(-count // GROUP) != len(markers):
                continue
            if _markers_fit(data, names, end, count, markers):
                return count, names
    return None


def _markers_fit(data: bytes, names: int, end: int, count: int, markers: list[int]) -> bool:
    """Whether the names from `names` on pass the markers, and end at `end` but for padding."""
    at = names
    for number in range(count):
        if number % GROUP == 0 and at - names != markers[number // GROUP]:
            return False
        at = _name_at(data, at)[1]
        if at > end:
            return False
    return end - at < 16
