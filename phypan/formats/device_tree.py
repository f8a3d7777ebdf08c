"""The flattened device tree, as far as a dump needs it.

Devicetree Specification 0.4, "Flattened Devicetree (DTB) Format", versions 16 and 17; LoPAR 2.9,
"RTAS Node" and "Memory Node". Property values are bytes here, as /proc/device-tree shows them.
Integers are big-endian.

It is read here and not by a library: fdt 0.3.3 refuses trees with NOP tokens, which boot loaders
leave where they delete something, needs hours for a damaged one of a megabyte, and keeps the memory
reservations of one tree for the next that it writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from construct import Const, Int32ub, Struct

from phypan.errors import BadRecord
from phypan.formats._records import Bytes, align, build, parse

MAGIC = bytes.fromhex("d00dfeed")
HEADER = Struct(
    "magic" / Const(MAGIC),
    "total_size" / Int32ub,  # bytes, as all that follow
    "struct_offset" / Int32ub,
    "strings_offset" / Int32ub,
    "reservations_offset" / Int32ub,
    "version" / Int32ub,
    "last_compatible_version" / Int32ub,
    "boot_cpu" / Int32ub,
    "strings_size" / Int32ub,
    "struct_size" / Int32ub,  # since version 17
)
BEGIN_NODE, END_NODE, PROPERTY, NOP, END = 1, 2, 3, 4, 9
VERSION, OLDEST_VERSION = 17, 16
WHERE = "device tree"
MAX_SIZE = 16 << 20  # bytes; the tree of the largest machine has a few MiB
MAX_DEPTH = 64
MAX_NAME = 256  # bytes with the NUL; the specification allows 31 and a unit address

_WORD, _TWO_WORDS = struct.Struct(">I"), struct.Struct(">II")


@dataclass(frozen=True)
class Node:
    """One node: properties by name, children in stored order."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: tuple[Node, ...] = ()

    def child(self, name: str) -> Node | None:
        """The child `name`, with or without its unit address."""
        return next(
            (node for node in self.children if name in (node.name, node.name.split("@")[0])), None
        )

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for node in self.children:
            yield from node.walk()


def read(blob: Bytes) -> Node:
    """The root of the tree in `blob`; BadRecord when it is damaged.

    Of a property that a node has twice the first counts, as for libfdt.
    """
    header = parse(HEADER, blob, WHERE)
    if len(blob) > MAX_SIZE:
        raise BadRecord(f"{len(blob)} bytes, more than {MAX_SIZE}", where=WHERE)
    if header.total_size > len(blob):
        raise BadRecord(
            f"{len(blob)} bytes where {header.total_size} are announced",
            where=WHERE,
            hint="was the file cut short when it was copied?",
        )
    if not header.last_compatible_version <= VERSION or header.version < OLDEST_VERSION:
        raise BadRecord(f"version {header.version}, not {VERSION}", where=WHERE)
    if header.struct_offset % 4:
        raise BadRecord(f"its structure is said to be at {header.struct_offset:#x}", where=WHERE)
    reader = _Reader(bytes(blob[: header.total_size]), header.strings_offset)
    return reader.tree(header.struct_offset)


class _Reader:
    """The structure block, token by token."""

    def __init__(self, blob: bytes, strings: int) -> None:
        self._blob, self._strings = blob, strings
        self._names: dict[int, str] = {}  # names of properties by offset: there are few

    def tree(self, at: int) -> Node:
        root = Node("")
        open_nodes: list[tuple[str, dict[str, bytes], list[Node]]] = [("", {}, [])]
        while (token := self._word(at)) != END:
            at += 4
            name, properties, children = open_nodes[-1]
            if token == BEGIN_NODE:
                child, at = self._name(at)
                if len(open_nodes) > MAX_DEPTH:
                    raise self._error(f"nodes nested deeper than {MAX_DEPTH}", at)
                open_nodes.append((child, {}, []))
            elif token == END_NODE and len(open_nodes) > 1:
                open_nodes.pop()
                open_nodes[-1][2].append(Node(name, properties, tuple(children)))
            elif token == PROPERTY and len(open_nodes) > 1:
                at = self._property(at, properties)
            elif token != NOP:
                raise self._error(f"token {token:#x}", at - 4)
        roots = open_nodes[0][2]
        if len(open_nodes) > 1 or len(roots) != 1:
            raise self._error("not one whole tree", at)
        root = roots[0]
        return Node(root.name or "/", root.properties, root.children)

    def _word(self, at: int) -> int:
        if at + 4 > len(self._blob):
            raise self._error("it ends inside of the tree", at)
        return int(_WORD.unpack_from(self._blob, at)[0])

    def _name(self, at: int) -> tuple[str, int]:
        """(the name at byte `at`, where the next token is)."""
        end = self._blob.find(b"\0", at, at + MAX_NAME)
        if end < 0:
            raise self._error("a name without an end", at)
        return self._blob[at:end].decode("ascii", "backslashreplace"), align(end + 1, 4)

    def _property(self, at: int, properties: dict[str, bytes]) -> int:
        """Where the next token is; the property at byte `at` is put into `properties`."""
        if at + 8 > len(self._blob):
            raise self._error("it ends inside of the tree", at)
        size, name_at = _TWO_WORDS.unpack_from(self._blob, at)
        start = at + 8
        if start + size > len(self._blob):
            raise self._error(f"a property of {size:#x} bytes", at)
        if name_at not in self._names:
            self._names[name_at], _ = self._name(self._strings + name_at)
        properties.setdefault(self._names[name_at], self._blob[start : start + size])
        return align(start + size, 4)

    @staticmethod
    def _error(what: str, at: int) -> BadRecord:
        return BadRecord(f"damaged: {what}", where=f"{WHERE}, byte {at:#x}")


def write(root: Node) -> bytes:
    """The flattened tree, version 17, without memory reservations."""
    strings: dict[bytes, int] = {}
    tokens = b"".join(_tokens(root, "" if root.name == "/" else root.name, strings))
    tokens += _WORD.pack(END)
    names = b"".join(strings)
    reservations = align(HEADER.sizeof(), 8)
    start = reservations + 16
    total = start + len(tokens) + len(names)
    fields = {
        "magic": MAGIC, "total_size": total, "struct_offset": start,
        "strings_offset": start + len(tokens), "reservations_offset": reservations,
        "version": VERSION, "last_compatible_version": OLDEST_VERSION, "boot_cpu": 0,
        "strings_size": len(names), "struct_size": len(tokens),
    }  # fmt: skip
    return build(HEADER, fields).ljust(start, b"\0") + tokens + names


def _tokens(node: Node, name: str, strings: dict[bytes, int]) -> Iterator[bytes]:
    yield _WORD.pack(BEGIN_NODE) + _padded(_text(name))
    for key, value in node.properties.items():
        text = _text(key)
        at = strings.setdefault(text, sum(map(len, strings)))
        yield _WORD.pack(PROPERTY) + _TWO_WORDS.pack(len(value), at) + _padded(value)
    for child in node.children:
        yield from _tokens(child, child.name, strings)
    yield _WORD.pack(END_NODE)


def _text(name: str) -> bytes:
    if not name.isascii() or "\0" in name or len(name) >= MAX_NAME:
        raise BadRecord(f"{name!r} is no name", where=WHERE)
    return name.encode("ascii") + b"\0"


def _padded(data: bytes) -> bytes:
    return data.ljust(align(len(data), 4), b"\0")


def kernel_dump(root: Node) -> bytes | None:
    """The raw property /rtas/ibm,kernel-dump; None when no dump is waiting."""
    rtas = root.child("rtas")
    return rtas.properties.get("ibm,kernel-dump") if rtas else None


def memory(root: Node) -> list[tuple[int, int]]:
    """(start, size) of each stretch of memory in bytes, physical addresses, sorted.

    From the memory nodes, and from ibm,dynamic-memory of LoPAR 2.9 ("drconf") when there is one: of
    that the blocks that are assigned and not reserved, as Linux takes them (drmem.c). Empty when
    the tree does not tell all of it.
    """
    address_cells = _cell(root, "#address-cells", 2)
    size_cells = _cell(root, "#size-cells", 1)
    stretches: list[tuple[int, int]] = []
    for node in root.children:
        if node.properties.get("device_type") == b"memory\0":
            reg = node.properties.get("reg", b"")
            stretches += _pairs(reg, address_cells, size_cells)
    dynamic = root.child("ibm,dynamic-reconfiguration-memory")
    if dynamic:
        block = dynamic.properties.get("ibm,lmb-size", b"")
        if len(block) != 8:
            return []
        stretches += _dynamic(dynamic, int.from_bytes(block, "big"))
    return sorted((start, size) for start, size in stretches if size)


def _cell(node: Node, name: str, default: int) -> int:
    value = node.properties.get(name, b"")
    cells = int.from_bytes(value, "big") if len(value) == 4 else default
    return cells if cells in (1, 2) else default


def _pairs(reg: bytes, address_cells: int, size_cells: int) -> Iterator[tuple[int, int]]:
    a, s = 4 * address_cells, 4 * size_cells
    for at in range(0, len(reg) - a - s + 1, a + s):
        yield (
            int.from_bytes(reg[at : at + a], "big"),
            int.from_bytes(reg[at + a : at + a + s], "big"),
        )


_LMB = struct.Struct(">QIIII")  # address, DRC index, reserved, associativity index, flags
_LMB_SET = struct.Struct(">IQIII")  # count, address, DRC index, associativity index, flags
_ASSIGNED, _RESERVED = 0x8, 0x80


def _dynamic(node: Node, size: int) -> Iterator[tuple[int, int]]:
    """(start, size) of the blocks of `size` bytes."""
    old, new = (node.properties.get(f"ibm,dynamic-memory{v}", b"") for v in ("", "-v2"))
    for at in range(4, len(old) - _LMB.size + 1, _LMB.size):
        address, _, _, _, flags = _LMB.unpack_from(old, at)
        if flags & _ASSIGNED and not flags & _RESERVED:
            yield address, size
    for at in range(4, len(new) - _LMB_SET.size + 1, _LMB_SET.size):
        count, address, _, _, flags = _LMB_SET.unpack_from(new, at)
        if flags & _ASSIGNED and not flags & _RESERVED:
            yield address, count * size
