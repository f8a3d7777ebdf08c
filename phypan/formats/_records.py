"""Where errors of Construct become errors of phypan, and what the declarations share."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from phypan.errors import BadRecord

if TYPE_CHECKING:
    from construct import Construct

ByteOrder = Literal["big", "little"]
STRUCT_ORDER: Mapping[ByteOrder, str] = {"big": ">", "little": "<"}

Bytes = bytes | bytearray | memoryview


def parse(declaration: Construct[Any, Any], data: Bytes, where: str) -> Any:
    """The record that `data` starts with; BadRecord, naming `where`, if there is none."""
    from construct import ConstructError

    size = declaration.sizeof()
    if len(data) < size:
        raise BadRecord(
            f"{len(data)} bytes where {size} are needed",
            where=where,
            hint="was the file cut short when it was copied?",
        )
    try:
        return declaration.parse(bytes(data[:size]))
    except ConstructError as error:
        raise BadRecord(_said(error), where=where) from error


def build(declaration: Construct[Any, Any], record: Mapping[str, object]) -> bytes:
    """The bytes of `record`; BadRecord if a value does not fit its field."""
    from construct import ConstructError

    try:
        return bytes(declaration.build(dict(record)))
    except (ConstructError, OverflowError, KeyError) as error:
        raise BadRecord(_said(error), where="a record to be written") from error


def _said(error: Exception) -> str:
    """What Construct says, on one line: "magic: expected b'REGSAVE' but parsed b'...'"."""
    path, _, rest = str(error).rpartition("\n")
    field = path.rpartition("-> ")[2].strip()
    rest = rest.removeprefix("parsing ").removeprefix("building ")
    return f"{field}: {rest}" if field else rest


def pack(record: struct.Struct, *values: object, where: str = "a record to be written") -> bytes:
    """The bytes of a row of a table; BadRecord if a value does not fit its field."""
    try:
        return record.pack(*values)
    except struct.error as error:
        raise BadRecord(str(error), where=where) from error


def align(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit
