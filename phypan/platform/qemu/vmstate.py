"""State of devices in a migration stream, read by the description that QEMU puts at its end.

QEMU docs/devel/migration/main.rst ("VMState"), migration/vmstate.c. A section of a device has no
length and no names: fields follow one another, big-endian, as the description lists them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from phypan.errors import BadRecord
from phypan.formats._records import Bytes

WHERE = "QEMU migration stream"
DESCRIPTION, SUBSECTION = 0x06, 0x05  # types of sections
_MAX_DEPTH = 32
_MAX_ELEMENTS = 1 << 20

State = dict[str, Any]  # fields by name: int, hexadecimal text of longer ones, State, list of these
Description = Mapping[str, Any]


class Reader:
    """Big-endian values, one after the other."""

    def __init__(self, data: Bytes) -> None:
        self.data = memoryview(data)
        self.at = 0

    def take(self, size: int) -> memoryview:
        """The next `size` bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise self.bad(f"{size} bytes wanted, {len(self.data) - self.at} left")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def text(self, size: int) -> str:
        """A text of `size` bytes."""
        return bytes(self.take(size)).decode("utf-8", "replace")

    def counted(self) -> str:
        """A text of up to 255 bytes behind its length."""
        return self.text(self.number(1))

    def next_is(self, byte: int) -> bool:
        """Whether the next byte, which stays where it is, is this one."""
        return self.at < len(self.data) and self.data[self.at] == byte

    def bad(self, what: str) -> BadRecord:
        """The error that says what is wrong at this place."""
        return BadRecord(what, where=f"{WHERE}, byte {self.at:#x}")

    def count(self, value: int, limit: int = _MAX_ELEMENTS, what: str = "elements") -> int:
        """`value`, if it is sensible."""
        if not 0 <= value <= limit:
            raise self.bad(f"{value} {what}")
        return value


def descriptions(data: Bytes) -> Mapping[tuple[str, int], Description]:
    """The description of each device's section, by name and instance.

    It ends the stream: a byte, its size, its text. The byte may occur elsewhere too, so the size
    decides.
    """
    whole = bytes(data)
    at = len(whole)
    while (at := whole.rfind(bytes([DESCRIPTION]), 0, at)) >= 0:
        start = at + 5
        if start + int.from_bytes(whole[at + 1 : start], "big") != len(whole):
            continue
        try:
            devices = json.loads(whole[start:])["devices"]
            return {(device["name"], device["instance_id"]): device for device in devices}
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    raise BadRecord("no description of the devices at its end", where=WHERE)


def read(reader: Reader, described: Description, depth: int = 0) -> State:
    """The next device, structure or subsection, as it is described."""
    if depth > _MAX_DEPTH:
        raise reader.bad("structures nested too deep")
    found: State = {}
    try:
        for item in described.get("fields", ()):
            _field(reader, item, found, depth)
        for item in described.get("subsections", ()):
            name = item.get("vmsd_name", item.get("name"))
            found[str(name)] = _subsection(reader, item, depth)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise reader.bad(f"a description that is none: {error!r}") from error
    return found


def _subsection(reader: Reader, described: Description, depth: int) -> State:
    if not reader.next_is(SUBSECTION):
        raise reader.bad("a subsection is described and is not there")
    reader.take(1)
    reader.counted()  # name
    reader.take(4)  # version
    return read(reader, described, depth + 1)


def _field(reader: Reader, described: Description, found: State, depth: int) -> None:
    """An array is described once with its length, or once for each element with its index."""
    name, length = described["name"], described.get("array_len")
    count = 1 if length is None else reader.count(length)
    values = [_value(reader, described, depth) for _ in range(count)]
    if length is not None:
        found[name] = values
    elif "index" in described:
        found.setdefault(name, []).append(values[0])
    else:
        found[name] = values[0]


def _value(reader: Reader, described: Description, depth: int) -> Any:
    if "struct" in described:
        return read(reader, described["struct"], depth + 1)
    raw = reader.take(int(described["size"]))
    if described.get("type") != "buffer" and len(raw) in (1, 2, 4, 8):
        signed = str(described.get("type", "")).startswith("int")
        return int.from_bytes(raw, "big", signed=signed)
    return bytes(raw).hex()


def numbers(state: Mapping[str, Any], name: str) -> Sequence[int]:
    """The values of a field that is an array of integers; empty if it is not there."""
    values = state.get(name, ())
    return [value for value in values if isinstance(value, int)]
