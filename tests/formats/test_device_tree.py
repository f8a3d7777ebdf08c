"""Flattened device trees: QEMU's own, one written by hand, and the fdt library's view of ours."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import device_tree, kernel_dump
from phypan.formats.device_tree import Node
from tests.damage import cut_short, flipped, refused, words_at_extremes

# Written by hand from the Devicetree Specification 0.4, chapter 5; numbers are big-endian words.
# The structure has NOP tokens, as libfdt's fdt_nop_property() and fdt_nop_node() leave them.
BY_HAND = bytes.fromhex(
    "d00dfeed 000000d0 00000038 000000ac 00000028 00000011 00000010 00000000 00000024 00000074"
    "0000000000000000 0000000000000000"  # no reservations
    "00000001 00000000"  # the root
    "00000003 00000004 00000000 00000002"  # #address-cells = <2>
    "00000004 00000004 00000004"  # a property was here
    "00000001 72746173 00000000"  # rtas
    "00000003 00000005 0000000f aabbccdd ee000000"  # ibm,kernel-dump, five bytes
    "00000003 00000000 0000001f"  # name: empty
    "00000002"
    "00000001 6d656d6f 72794030 00000000"  # memory@0
    "00000002"
    "00000002 00000004 00000009"
    # #address-cells ibm,kernel-dump name
    "23616464726573732d63656c6c7300 69626d2c6b65726e656c2d64756d7000 6e616d6500"
)


def test_a_tree_written_by_hand_is_read() -> None:
    assert len(BY_HAND) == 0xD0
    assert device_tree.read(BY_HAND) == Node(
        "/",
        {"#address-cells": b"\0\0\0\2"},
        (
            Node("rtas", {"ibm,kernel-dump": bytes.fromhex("aabbccddee"), "name": b""}),
            Node("memory@0"),
        ),
    )


def test_bytes_behind_the_tree_are_left_alone() -> None:
    """/proc and firmware hand it on in whole pages."""
    assert device_tree.read(BY_HAND + bytes(100)) == device_tree.read(BY_HAND)


def test_qemus_own_tree_is_read_as_the_library_reads_it(real) -> None:
    fdt = pytest.importorskip("fdt")
    blob = real.device_tree.read_bytes()
    theirs = fdt.parse_dtb(blob)
    ours = device_tree.read(blob)
    count = 0
    for path, _, properties in theirs.walk():
        node = ours
        for part in path.strip("/").split("/"):
            if part:
                (node,) = [child for child in node.children if child.name == part]
        assert set(node.properties) == {item.name for item in properties}
        for item in properties:
            assert node.properties[item.name] == raw(item), f"{path}/{item.name}"
            count += 1
    assert count > 300


def raw(item) -> bytes:
    """The bytes that the fdt library took for strings, words or bytes."""
    kind = type(item).__name__
    if kind == "PropStrings":
        return b"".join(text.encode() + b"\0" for text in item.data)
    if kind == "PropWords":
        return struct.pack(f">{len(item.data)}I", *item.data)
    return bytes(item.data) if kind == "PropBytes" else b""


def test_qemus_tree_tells_the_dump_and_the_memory(real) -> None:
    root = device_tree.read(real.device_tree.read_bytes())
    assert device_tree.memory(root) == [(0, 1 << 30), (1 << 30, 256 << 20)], "-m 1280"
    dump = kernel_dump.read(device_tree.kernel_dump(root))
    assert [section.type for section in dump.sections] == [1, 2, 0x11, 0x100]


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
values = st.binary(max_size=40) | st.just(bytes(4)) | st.just(b"text\0") | st.just(b"\0")
trees = st.recursive(
    st.builds(Node, names, st.dictionaries(names, values, max_size=4)),
    lambda children: st.builds(
        Node,
        names,
        st.dictionaries(names, values, max_size=4),
        st.lists(children, max_size=4).map(tuple),
    ),
    max_leaves=12,
)


@given(trees)
def test_what_is_written_is_read(tree) -> None:
    blob = device_tree.write(tree)
    assert device_tree.read(blob) == tree
    assert int.from_bytes(blob[4:8], "big") == len(blob)


@given(trees)
def test_the_library_reads_what_we_write(tree) -> None:
    fdt = pytest.importorskip("fdt")

    def same(ours: Node, theirs) -> None:
        assert {item.name: raw(item) for item in theirs.props} == ours.properties
        assert [node.name for node in theirs.nodes] == [node.name for node in ours.children]
        for ours_below, theirs_below in zip(ours.children, theirs.nodes, strict=True):
            same(ours_below, theirs_below)

    # The library refuses a name twice among siblings.
    def unique(node: Node) -> Node:
        below = {child.name: unique(child) for child in node.children}
        return Node(node.name, node.properties, tuple(below.values()))

    tree = unique(tree)
    same(tree, fdt.parse_dtb(device_tree.write(tree)).root)


def test_a_property_there_twice_is_what_libfdt_finds_first() -> None:
    blob = device_tree.write(Node("/", {"aa": b"1", "ab": b"2"}))
    assert device_tree.read(blob.replace(b"ab\0", b"aa\0")).properties == {"aa": b"1"}


@pytest.mark.parametrize("name", ["ä", "a\0b", "x" * 256])
def test_a_name_that_no_tree_can_have_is_refused(name) -> None:
    for tree in (Node("/", {name: b""}), Node("/", {}, (Node(name),))):
        with pytest.raises(BadRecord):
            device_tree.write(tree)


def test_a_tree_that_is_cut_short_is_refused() -> None:
    assert refused(device_tree.read, cut_short(BY_HAND)) == len(BY_HAND)


def test_a_tree_cut_short_that_does_not_say_so_is_refused() -> None:
    cut = [
        BY_HAND[:4] + struct.pack(">I", size) + BY_HAND[8:size]
        for size in range(0x38, len(BY_HAND), 4)
    ]
    assert refused(device_tree.read, cut) == len(cut)


def everything(blob: bytes) -> None:
    root = device_tree.read(blob)
    device_tree.memory(root)
    device_tree.kernel_dump(root)


def test_every_word_at_extreme_values_is_read_or_refused() -> None:
    assert refused(everything, words_at_extremes(BY_HAND, 4, "big")) > 100


@given(flipped(BY_HAND))
def test_flipped_bits_are_read_or_refused(blob) -> None:
    refused(everything, [blob])


def test_nodes_without_end_are_refused_in_time() -> None:
    deep = device_tree.write(Node("/"))
    start = int.from_bytes(deep[8:12], "big")
    blob = bytearray(deep[:start] + struct.pack(">II", 1, 0x61000000) * 1_000_000)
    blob[4:8] = len(blob).to_bytes(4, "big")
    began = time.process_time()
    with pytest.raises(BadRecord, match="deeper"):
        device_tree.read(blob)
    assert time.process_time() - began < 5


def test_a_name_of_a_megabyte_is_not_looked_through_for_each_property() -> None:
    """One string without an end, and a hundred thousand properties that are named by it."""
    head = struct.pack(">II", 1, 0)
    properties = struct.pack(">III", 3, 0, 0) * 100_000
    tokens = head + properties + struct.pack(">II", 2, 9)
    total = 56 + len(tokens) + (1 << 20)
    header = struct.pack(
        ">10I", 0xD00DFEED, total, 56, 56 + len(tokens), 40, 17, 16, 0, 1 << 20, len(tokens)
    )
    blob = header + bytes(16) + tokens + b"x" * (1 << 20)
    began = time.process_time()
    with pytest.raises(BadRecord, match="without an end"):
        device_tree.read(blob)
    assert time.process_time() - began < 5


def test_a_file_that_is_no_tree_of_any_machine_is_refused() -> None:
    with pytest.raises(BadRecord, match="more than"):
        device_tree.read(BY_HAND + bytes(device_tree.MAX_SIZE))


def test_old_versions_are_refused_by_number() -> None:
    blob = bytearray(BY_HAND)
    blob[20:28] = struct.pack(">II", 3, 2)
    with pytest.raises(BadRecord, match="version 3"):
        device_tree.read(blob)


def cells(*words: int) -> bytes:
    return struct.pack(f">{len(words)}I", *words)


def memory_node(name: str, reg: bytes) -> Node:
    return Node(name, {"device_type": b"memory\0", "reg": reg})


def test_memory_nodes_are_put_together_and_sorted() -> None:
    root = Node(
        "/",
        {"#address-cells": cells(2), "#size-cells": cells(2)},
        (
            memory_node("memory@100000000", cells(1, 0, 0, 0x1000, 2, 0, 0, 0)),
            memory_node("memory@0", cells(0, 0, 0, 0x10000000)),
            Node("cpus", {"reg": cells(0, 0, 0, 1)}),
        ),
    )
    assert device_tree.memory(root) == [(0, 0x10000000), (0x100000000, 0x1000)]


def test_cells_of_one_word_and_the_default_of_the_specification() -> None:
    root = Node("/", {"#address-cells": cells(1)}, (memory_node("memory", cells(0x1000, 0x2000)),))
    assert device_tree.memory(root) == [(0x1000, 0x2000)]
    root = Node("/", {}, (memory_node("memory", cells(1, 0x1000, 0x2000)),))
    assert device_tree.memory(root) == [(0x100001000, 0x2000)]


# LoPAR 2.9, "ibm,dynamic-memory": flags 0x8 assigned to the partition, 0x40 the associativity is
# not valid (the memory is), 0x80 reserved.
ASSIGNED, NO_ASSOCIATIVITY, RESERVED = 0x8, 0x40, 0x80


@pytest.mark.parametrize("version", [1, 2])
def test_dynamic_memory_is_what_is_assigned_and_not_reserved(version) -> None:
    blocks = {0: ASSIGNED, 1: ASSIGNED | NO_ASSOCIATIVITY, 2: ASSIGNED | RESERVED, 3: 0}
    size = 0x10000000
    if version == 1:
        value = cells(4) + b"".join(
            struct.pack(">QIIII", n * size, 0x80000000 + n, 0, 0, flags)
            for n, flags in blocks.items()
        )
    else:
        value = cells(4) + b"".join(
            struct.pack(">IQIII", 2, 2 * n * size, 0x80000000 + n, 0, flags)
            for n, flags in blocks.items()
        )
    name = "ibm,dynamic-memory" if version == 1 else "ibm,dynamic-memory-v2"
    dynamic = Node(
        "ibm,dynamic-reconfiguration-memory",
        {"ibm,lmb-size": size.to_bytes(8, "big"), name: value},
    )
    root = Node("/", {}, (dynamic,))
    assert device_tree.memory(root) == [
        (0, size * version),
        (size * version, size * version),
    ]


def test_memory_that_is_not_told_whole_is_not_told() -> None:
    dynamic = Node("ibm,dynamic-reconfiguration-memory", {"ibm,dynamic-memory": cells(0)})
    root = Node("/", {"#size-cells": cells(1)}, (memory_node("m", cells(0, 0, 9)), dynamic))
    assert device_tree.memory(root) == []


def test_no_dump_is_waiting_without_the_property() -> None:
    assert device_tree.kernel_dump(Node("/")) is None
    assert device_tree.kernel_dump(Node("/", {}, (Node("rtas"),))) is None
    with_address = Node("/", {}, (Node("rtas@1", {"ibm,kernel-dump": b"x"}),))
    assert device_tree.kernel_dump(with_address) == b"x"


def test_nodes_are_walked_from_the_top() -> None:
    tree = Node("/", {}, (Node("a", {}, (Node("b"),)), Node("c")))
    assert [node.name for node in tree.walk()] == ["/", "a", "b", "c"]
