"""The parts of a flattened device tree that a dump needs; the fdt library reads it.

Devicetree Specification 0.4, "Flattened Devicetree (DTB) Format"; LoPAR 2.9, "RTAS Node" and
"Memory Node". Property values are bytes here, as /proc/device-tree shows them: fdt guesses at
strings and words, and the guess is undone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import fdt

from phypan.errors import BadRecord
from phypan.formats._records import Bytes

MAGIC = bytes.fromhex("d00dfeed")
WHERE = "device tree"
MAX_SIZE = 64 << 20  # bytes; the tree of the largest machine has a few MiB
MAX_DEPTH = 64


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
    """The root of the tree in `blob`; BadRecord when it is damaged."""
    _check(blob)
    try:
        tree = fdt.parse_dtb(bytes(blob))
        return _node(tree.root, 0)
    except BadRecord:
        raise
    except Exception as error:
        raise BadRecord(f"damaged: {error}", where=WHERE) from error


def _check(blob: Bytes) -> None:
    if bytes(blob[:4]) != MAGIC:
        raise BadRecord("it does not begin with d00dfeed", where=WHERE)
    if len(blob) > MAX_SIZE:
        raise BadRecord(f"{len(blob)} bytes, more than {MAX_SIZE}", where=WHERE)
    size = int.from_bytes(bytes(blob[4:8]), "big")
    if len(blob) < 40 or size > len(blob):
        raise BadRecord(f"{len(blob)} bytes where {max(size, 40)} are announced", where=WHERE)


def _node(node: fdt.Node, depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise BadRecord(f"nodes nested deeper than {MAX_DEPTH}", where=WHERE)
    properties = {item.name: _raw(item) for item in node.props}
    return Node(node.name, properties, tuple(_node(child, depth + 1) for child in node.nodes))


def _raw(item: fdt.Property) -> bytes:
    """The bytes that fdt took for strings, words or bytes."""
    if isinstance(item, fdt.PropStrings):
        return b"".join(text.encode() + b"\0" for text in item.data)
    if isinstance(item, fdt.PropWords):
        return struct.pack(f">{len(item.data)}I", *item.data)
    if isinstance(item, fdt.PropBytes):
        return bytes(item.data)
    return b""


def write(root: Node) -> bytes:
    """The flattened tree, version 17."""
    tree = fdt.FDT()
    tree.root = _build(root)
    return bytes(tree.to_dtb(version=17))


def _build(node: Node) -> fdt.Node:
    built = fdt.Node(node.name or "/")
    for name, value in node.properties.items():
        built.append(fdt.PropBytes(name, data=value) if value else fdt.Property(name))
    for child in node.children:
        built.append(_build(child))
    return built


def kernel_dump(root: Node) -> bytes | None:
    """The raw property /rtas/ibm,kernel-dump; None when no dump is waiting."""
    rtas = root.child("rtas")
    return rtas.properties.get("ibm,kernel-dump") if rtas else None


def memory(root: Node) -> list[tuple[int, int]]:
    """(start, size) of each stretch of memory in bytes, physical addresses, sorted.

    From the memory nodes, and from ibm,dynamic-memory of LoPAR 2.9 ("drconf") when there is one.
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
        stretches += _dynamic(dynamic)
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
_ASSIGNED, _INVALID = 0x8, 0x40


def _dynamic(node: Node) -> Iterator[tuple[int, int]]:
    size = int.from_bytes(node.properties.get("ibm,lmb-size", b""), "big")
    old, new = (node.properties.get(f"ibm,dynamic-memory{v}", b"") for v in ("", "-v2"))
    for at in range(4, len(old) - _LMB.size + 1, _LMB.size):
        address, _, _, _, flags = _LMB.unpack_from(old, at)
        if flags & _ASSIGNED and not flags & _INVALID:
            yield address, size
    for at in range(4, len(new) - _LMB_SET.size + 1, _LMB_SET.size):
        count, address, _, _, flags = _LMB_SET.unpack_from(new, at)
        if flags & _ASSIGNED and not flags & _INVALID:
            yield address, count * size
