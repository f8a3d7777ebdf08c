"""Regions: each witness alone, together, against each other, and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from phypan.errors import BadRecord, InputError
from phypan.formats import device_tree, kernel_dump
from phypan.formats.device_tree import Node
from phypan.formats.kernel_dump import SectionType
from phypan.regions import read_regions
from phypan.stores import BytesStore
from tests import synthetic
from tests.formats.test_fadump import NEW, OLD
from tests.formats.test_kernel_dump import BY_HAND
from tests.formats.test_release_region import DOCUMENT, KERNEL

RAM = BytesStore(bytes(1 << 20), "ram")
PROPERTY_TEXT = "CPU:0x6ffb0000-0x40020: HPTE:0x6fff0020-0x1000: DUMP:0x6fff1020-0x10000000, 0-0:\n"


@pytest.fixture
def files(folder):
    """Write a file of a name and say where it is."""

    def write(name: str, content: bytes | str) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def tree(value: bytes | None = BY_HAND, memory: int = 0x80000000) -> bytes:
    rtas = Node("rtas", {} if value is None else {"ibm,kernel-dump": value})
    reg = struct.pack(">QQ", 0, memory)
    nodes = (rtas, Node("memory@0", {"device_type": b"memory\0", "reg": reg}))
    cells = dict.fromkeys(("#address-cells", "#size-cells"), b"\x00\x00\x00\x02")
    return device_tree.write(Node("/", cells, nodes))


def places(regions) -> dict[str, tuple[int, int]]:
    return {s.name: (s.destination, s.dumped) for s in regions.kernel_dump.sections}


HAND = {
    "CPU_STATE": (0x6FFB0000, 0x40020),
    "HPTE": (0x6FFF0020, 0x1000),
    "REAL_MODE_REGION": (0x6FFF1020, 0x10000000),
}


def test_the_raw_property(files) -> None:
    regions = read_regions([files("p", BY_HAND)], RAM)
    assert places(regions) == HAND
    assert (regions.property, regions.device_tree, regions.memory) == (BY_HAND, None, None)
    assert regions.problems == ()


def test_a_flattened_tree_tells_the_memory_as_well(files) -> None:
    regions = read_regions([files("boot2.dtb", tree())], RAM)
    assert places(regions) == HAND
    assert (regions.property, regions.device_tree) == (BY_HAND, tree())
    assert regions.memory == [(0, 0x80000000)]
    assert regions.problems == ()


def test_a_directory_like_proc_device_tree(folder) -> None:
    (folder / "dt" / "rtas").mkdir(parents=True)
    (folder / "dt" / "memory@0").mkdir()
    (folder / "dt" / "rtas" / "ibm,kernel-dump").write_bytes(BY_HAND)
    (folder / "dt" / "#address-cells").write_bytes(b"\0\0\0\2")
    (folder / "dt" / "#size-cells").write_bytes(b"\0\0\0\2")
    (folder / "dt" / "memory@0" / "device_type").write_bytes(b"memory\0")
    (folder / "dt" / "memory@0" / "reg").write_bytes(struct.pack(">QQ", 0, 1 << 30))
    regions = read_regions([folder / "dt"], RAM)
    assert places(regions) == HAND
    assert regions.memory == [(0, 1 << 30)]


def test_the_documents_text_alone(files) -> None:
    regions = read_regions([files("release_region", DOCUMENT)], RAM)
    assert places(regions) == {
        "CPU_STATE": (0x177FEE000, 0x10000),
        "HPTE": (0x177FFE020, 0x1000),
        "REAL_MODE_REGION": (0x177FFF020, 0x10000000),
    }
    assert regions.property is None
    assert any("not whole pages" in problem.what for problem in regions.problems)


def test_debugfs_of_old_kernels_alone(files) -> None:
    assert places(read_regions([files("fadump_region", OLD)], RAM)) == HAND


def test_debugfs_of_new_kernels_tells_every_copy_with_its_source(files) -> None:
    regions = read_regions([files("fadump_region", NEW)], RAM)
    low, high = regions.kernel_dump.of_type(SectionType.REAL_MODE_REGION)
    assert (low.source, low.destination, low.length, low.dumped) == (
        0, 0x18ED0000, 0xA000000, 0xA000000,
    )  # fmt: skip
    assert (high.source, high.destination, high.length, high.dumped) == (
        0x20000000, 0x22ED0000, 0xA000000, 0x9000000,
    )  # fmt: skip
    assert [problem.meaning for problem in regions.problems] == ["the rest is missing"]


def test_offsets_are_found_by_the_save_areas_magic(files) -> None:
    """The last one on a page that leaves room for the copy counts: the area is at the top."""
    memory = bytearray(0x1000 * 100)
    for address in (0x3000, 0x5008, 0x9000, 0x50000):
        memory[address : address + 8] = b"REGSAVE\0"
    size = 0x9000 + 0x11020 + (256 << 20)

    class Image(BytesStore):
        """As large as a partition with the copy in it, and zeros behind what is given."""

        size = property(lambda self: size)

        def view(self, offset, count):
            return memoryview(bytes(memory[offset : offset + count]).ljust(count, b"\0"))

        def data(self, offset, count):
            yield offset, min(count, max(0, len(memory) - offset))

    regions = read_regions([files("release_region", KERNEL)], Image(b"", "ram"))
    assert places(regions) == {
        "CPU_STATE": (0x9000, 0x10020),
        "HPTE": (0x9000 + 0x10020, 0x1000),
        "REAL_MODE_REGION": (0x9000 + 0x11020, 256 << 20),
    }
    assert any("offsets instead" in problem.what for problem in regions.problems)


def test_offsets_and_no_save_area_are_an_error_with_a_hint(files) -> None:
    with pytest.raises(InputError, match="no register save area in memory") as caught:
        read_regions([files("release_region", KERNEL)], RAM)
    assert "device tree" in caught.value.hint


def test_witnesses_that_agree_say_nothing(files) -> None:
    given = [
        files("boot2.dtb", tree()),
        files("p", BY_HAND),
        files("text", PROPERTY_TEXT),
        files("d", OLD),
    ]
    for order in (given, given[::-1]):
        regions = read_regions(order, RAM)
        assert places(regions) == HAND
        assert regions.problems == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "0x6ffb0000",
            "0x6ffa0000",
            "CPU_STATE: 0x40020 bytes at 0x6ffa0000, but 0x40020 bytes at",
        ),
        ("0x1000:", "0x2000:", "HPTE: 0x2000 bytes at 0x6fff0020, but 0x1000 bytes at 0x6fff0020"),
        ("0x10000000,", "0x20000000,", "REAL_MODE_REGION: 0x20000000 bytes"),
    ],
)
def test_a_text_that_disagrees_is_said_and_not_followed(files, old, new, said) -> None:
    text = files("text", PROPERTY_TEXT.replace(old, new))
    regions = read_regions([text, files("p", BY_HAND)], RAM)
    assert places(regions) == HAND
    (problem,) = regions.problems
    assert problem.what.startswith(said)
    assert problem.what.endswith("in the property")
    assert problem.where == str(text)
    assert problem.meaning == "the property was followed"


def test_a_text_without_lengths_does_not_disagree(files) -> None:
    text = "CPU:0x6ffb0000-0x0: HPTE:0x6fff0020-0x0: DUMP:0x6fff1020-0x0, 0x0-0x0:"
    assert read_regions([files("t", text), files("p", BY_HAND)], RAM).problems == ()


def test_a_text_with_offsets_is_said_and_not_followed(files) -> None:
    regions = read_regions([files("t", KERNEL), files("p", BY_HAND)], RAM)
    (problem,) = regions.problems
    assert problem.what == "offsets instead of addresses"
    assert places(regions) == HAND


def test_two_texts_are_held_against_each_other(files) -> None:
    regions = read_regions(
        [files("a", PROPERTY_TEXT), files("b", OLD.replace("40020", "40030"))], RAM
    )
    assert places(regions) == HAND
    (problem,) = [p for p in regions.problems if p.where.endswith("b")]
    assert "0x40030 bytes at 0x6ffb0000, but 0x40020 bytes" in problem.what


def test_what_a_text_leaves_out_is_said(files) -> None:
    debug = "".join(line for line in OLD.splitlines(keepends=True) if "HPTE" not in line)
    (problem,) = read_regions([files("p", BY_HAND), files("d", debug)], RAM).problems
    assert problem.what == "HPTE: nothing, but 0x1000 bytes at 0x6fff0020 in the property"


def test_two_properties_that_differ_are_said_and_the_first_counts(files) -> None:
    other = BY_HAND[:-8] + bytes(8)
    first, second = files("one", BY_HAND), files("two", other)
    for given, expected in (([first, second], BY_HAND), ([second, first], other)):
        regions = read_regions(given, RAM)
        assert regions.property == expected
        (problem,) = [p for p in regions.problems if "another" in p.what]
        assert problem.where == str(given[1])
    regions = read_regions([files("boot2.dtb", tree(other)), first], RAM)
    assert regions.property == other


def test_the_tree_of_a_boot_without_a_dump_is_said(files) -> None:
    regions = read_regions(
        [files("boot1.dtb", tree(None, 1 << 30)), files("boot2.dtb", tree())], RAM
    )
    assert (regions.property, regions.memory) == (BY_HAND, [(0, 0x80000000)])
    assert "no dump was waiting" in regions.problems[0].meaning
    with pytest.raises(InputError, match="no dump is described"):
        read_regions([files("boot1.dtb", tree(None))], RAM)


def test_a_damaged_property_gives_way_to_a_text(files) -> None:
    regions = read_regions([files("p", BY_HAND[:60]), files("t", PROPERTY_TEXT)], RAM)
    assert places(regions) == HAND
    assert any("no section" in problem.what for problem in regions.problems)
    with pytest.raises(BadRecord, match="no section"):
        read_regions([files("p", BY_HAND[:60])], RAM)


def test_what_was_only_registered_is_said(files) -> None:
    dump = synthetic.kernel_dump(synthetic.section(1, 0, 32, 4096, dumped=0), status=0)
    said = [p.what for p in read_regions([files("p", dump)], RAM).problems]
    assert "no dump was performed" in said


def test_another_version_of_the_property_is_still_one(files) -> None:
    regions = read_regions([files("p", b"\0\0\0\2" + BY_HAND[4:])], RAM)
    assert places(regions) == HAND
    assert "version 2" in regions.problems[0].what


@pytest.mark.parametrize("content", [b"", b"hello\n", b"#!/bin/sh\n", b"CPU:1-2", b"\xff\xfe" * 40])
def test_a_file_that_describes_nothing_is_an_error_that_names_it(files, content) -> None:
    path = files("what", content)
    with pytest.raises(BadRecord) as caught:
        read_regions([path], RAM)
    assert str(path) in str(caught.value)


def test_no_files_at_all() -> None:
    with pytest.raises(InputError, match="no dump is described"):
        read_regions([], RAM)
    with pytest.raises(InputError, match="no dump is described"):
        read_regions(iter([]), RAM)


def test_files_that_cannot_be_read(folder, unprivileged) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_regions([folder / "none"], RAM)
    (folder / "closed").mkdir(mode=0)
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no rtas/ibm,kernel-dump in it"):
        read_regions([folder / "empty"], RAM)

    def attempt() -> str:
        told = []
        for path in ("closed", "closed/inside"):
            try:
                read_regions([path], RAM)
            except InputError as error:
                told.append(error.what)
        return ", ".join(told)

    assert unprivileged(attempt, folder) == "Permission denied, Permission denied"


def test_a_file_of_any_size_is_not_read_whole(folder) -> None:
    with (folder / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="too large"):
        read_regions([folder / "huge"], RAM)
    (folder / "dt" / "rtas").mkdir(parents=True)
    (folder / "dt" / "rtas" / "ibm,kernel-dump").write_bytes(BY_HAND)
    with (folder / "dt" / "rtas" / "slof").open("wb") as file:
        file.truncate(1 << 40)
    assert places(read_regions([folder / "dt"], RAM)) == HAND


def test_a_pipe_is_a_file_too(folder) -> None:
    """phypan --regions <(ssh lpar cat /sys/kernel/release_region)"""
    import os

    reader, writer = os.pipe()
    os.write(writer, PROPERTY_TEXT.encode())
    os.close(writer)
    assert places(read_regions([f"/proc/self/fd/{reader}"], RAM)) == HAND
    os.close(reader)


def test_real_trees_and_the_property_in_them_agree(real, files) -> None:
    blob = real.device_tree.read_bytes()
    raw = device_tree.kernel_dump(device_tree.read(blob))
    regions = read_regions([real.device_tree, files("p", raw)], RAM)
    assert regions.problems == ()
    assert kernel_dump.read(raw) == regions.kernel_dump
