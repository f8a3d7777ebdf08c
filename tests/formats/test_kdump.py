"""KDUMP headers: bytes written by hand, all values, damage."""

from __future__ import annotations

import dataclasses
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import kdump
from phypan.formats.kdump import Descriptor, Kdump, Part, Seal
from tests.kdump_files import RAW, KdumpFile


def _read(data: bytes, size: int | None = None) -> Kdump:
    return kdump.read(lambda at, count: data[at : at + count], len(data) if size is None else size)


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("page_size", kdump.PAGE_SIZES)
def test_headers_written_by_hand(order: str, page_size: int) -> None:
    data = KdumpFile(
        {3: (bytes(page_size), RAW)}, order, page_size, max_mapnr=0x40001, notes=b"n" * 40,
        vmcoreinfo=b"OSRELEASE=1\n", split=(2, 0x30000), dump_level=31, status=0x20 | 8,
    ).write()  # fmt: skip
    head = _read(data)
    blocks = {4096: 9, 16384: 3, 65536: 1, 262144: 1}[page_size]
    assert head.problems == ()
    assert head == Kdump(
        order=order, block_size=page_size, max_mapnr=0x40001, sub_hdr_size=1,
        bitmap_blocks=2 * blocks, time=1453471962, status=0x28, nr_cpus=1, dump_level=31,
        utsname=(b"Linux", b"test-node", b"3.4.5-test", b"#1 SMP", b"ppc64", b"(none)"),
        split=(2, 0x30000), vmcoreinfo=Part(page_size + 144, 12), notes=Part(page_size + 104, 40),
    )  # fmt: skip
    assert head.incomplete
    assert head.has_both_bitmaps
    assert head.bitmaps_at == 2 * page_size
    assert head.descriptors_at == 2 * page_size + 2 * blocks * page_size


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_fields_count_from_the_version_on_that_has_them(version: int) -> None:
    head = _read(
        KdumpFile(
            {}, version=version, notes=b"n" * 40, vmcoreinfo=b"X=1\n", split=(1, 9), dump_level=7
        ).write()
    )
    assert head.dump_level == 7
    assert head.split == ((1, 9) if version >= 2 else None)
    assert bool(head.vmcoreinfo.size) is (version >= 3)
    assert bool(head.notes.size) is (version >= 4)


def test_page_frames_beyond_32_bits_are_in_version_6() -> None:
    many = (1 << 35) + 8
    head = Kdump("little", 65536, many, bitmap_blocks=2 * kdump.bitmap_blocks(many, 65536))
    first, second = kdump.write_head(head)
    data = first.ljust(65536, b"\0") + second.ljust(65536, b"\0")
    assert struct.unpack_from("<I", data, 440) == (0xFFFFFFFF,)
    assert _read(data, 1 << 40).max_mapnr == many


_NAMES = st.binary(max_size=64).map(lambda text: text.replace(b"\0", b"x"))
_PARTS = st.builds(Part, st.integers(1, 1 << 40), st.integers(1, 1 << 30))
_HEADS = st.builds(
    Kdump,
    order=st.sampled_from(["big", "little"]),
    block_size=st.sampled_from(kdump.PAGE_SIZES),
    max_mapnr=st.integers(1, 1 << 36),
    sub_hdr_size=st.integers(1, 1 << 19),
    utsname=st.tuples(*[_NAMES] * 6),
    time=st.integers(-(1 << 63), (1 << 63) - 1),
    status=st.integers(0, (1 << 32) - 1),
    nr_cpus=st.integers(-(1 << 31), (1 << 31) - 1),
    phys_base=st.integers(0, (1 << 64) - 1),
    dump_level=st.integers(0, 31),
    split=st.none() | st.lists(st.integers(0, 1 << 40), min_size=2, max_size=2).map(
        lambda pair: tuple(sorted(pair))
    ),
    vmcoreinfo=st.just(Part()) | _PARTS,
    notes=st.just(Part()) | _PARTS,
    eraseinfo=st.just(Part()) | _PARTS,
)  # fmt: skip


@given(_HEADS)
def test_what_is_written_is_read(head: Kdump) -> None:
    needed = kdump.bitmap_blocks(head.max_mapnr, head.block_size)
    head = dataclasses.replace(head, bitmap_blocks=2 * needed)
    first, second = kdump.write_head(head)
    assert (len(first), len(second)) == (kdump.HEADER_SIZE, kdump.SUB_HEADER_SIZE)
    data = first.ljust(head.block_size, b"\0") + second
    assert _read(data, 1 << 45) == head


def test_bytes_that_are_no_kdump_file() -> None:
    good = KdumpFile({}).write()
    for data in (b"", b"KDUMP", b"KDUMP   ", good[:463], b"\x7fELF" + good[4:]):
        with pytest.raises(BadRecord):
            _read(data)


@given(st.integers(0, 463), st.integers(0, 255), st.integers(0, 103), st.integers(0, 255))
def test_damaged_headers_are_read_or_refused(a: int, x: int, b: int, y: int) -> None:
    data = bytearray(KdumpFile({1: (bytes(4096), RAW)}, page_size=4096, notes=b"n" * 80).write())
    data[a], data[4096 + b] = x, y
    try:
        head = _read(bytes(data))
    except BadRecord:
        return
    assert head.bitmap_blocks <= 2 * (len(data) // 4096 + 1), "no bitmap is larger than the file"
    for part in (head.notes, head.vmcoreinfo, head.eraseinfo):
        assert part.size <= kdump.MAX_NOTES_SIZE
        assert not part.size or part.offset <= len(data)


def test_too_many_bitmap_blocks_are_taken_from_the_number_of_frames() -> None:
    head = _read(KdumpFile({}, fields={"bitmap_blocks": 0x7FFFFFFF}).write())
    assert head.bitmap_blocks == 2
    assert "bitmap_blocks" in head.problems[0].what


def test_too_many_frames_are_taken_from_the_bitmap_blocks() -> None:
    head = _read(KdumpFile({}, fields={"max_mapnr_64": 1 << 60, "max_mapnr": 0xFFFFFFFF}).write())
    assert head.max_mapnr == 65536 * 8
    assert "max_mapnr" in head.problems[0].what


@given(
    st.lists(
        st.tuples(
            st.integers(-5, 5000) | st.integers(-(1 << 63), (1 << 63) - 1),
            st.sampled_from([0, 1, 100, 4095, 4096, 4097, (1 << 32) - 1]),
            st.sampled_from([0, 1, 2, 3, 4, 0x20, 0x40]),
            st.integers(0, (1 << 64) - 1),
        ),
        max_size=30,
    ),
    st.sampled_from(["big", "little"]),
    st.integers(0, 9000),
)
def test_faults_of_descriptors_are_found_with_and_without_numpy(rows, order, size) -> None:
    data = b"".join(kdump.DESCRIPTOR[order].pack(*row) for row in rows)
    head = Kdump(order, 4096, 1)
    one_by_one = list(kdump._faulty(data, head, size))
    assert list(kdump.faulty(data, head, size)) == one_by_one
    for index, row in enumerate(rows):
        offset, stored, flags, _ = row
        right = (
            offset > 0 and offset + stored <= size and flags in (0, 1, 2, 4, 0x20)
            and 0 < stored <= 4096 and (flags != 0 or stored == 4096)
        )  # fmt: skip
        assert (index not in dict(one_by_one)) is right, Descriptor(*row)


def test_a_checksum_says_of_which_page_and_how_stored() -> None:
    crc = zlib.crc32(b"stored")
    expected = crc ^ zlib.crc32((7).to_bytes(8, "little") + bytes([6, 0, 0, 0, 1, 0, 0, 0]))
    assert kdump.checksum(7, 6, 1, crc) == expected
    assert len({kdump.checksum(pfn, 6, 1, crc) for pfn in range(1000)}) == 1000


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1), st.integers(0, 159))
def test_a_seal_knows_when_it_is_damaged(head: int, split: int, bit: int) -> None:
    data = bytearray(Seal(head, split).write())
    assert Seal.read(data) == Seal(head, split)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadRecord):
        Seal.read(data)


def test_a_seal_holds_when_makedumpfile_has_joined_the_files() -> None:
    part = KdumpFile({3: (bytes(4096), RAW)}, page_size=4096, notes=b"n" * 400, split=(0, 0x80))
    at = 4096 + 104 + 100

    def reader(data: bytes | bytearray):
        return lambda low, size: data[low : low + size]

    sealed = kdump.seal(_read(part.write()), at, reader(part.write()))
    for other, holds in (((0, 0x81), False), ((0x80, 0x100), False), (None, True)):
        part.split = other
        data = part.write()
        assert sealed.holds(_read(data), at, reader(data)) is holds
    damaged = bytearray(data)
    for place in (0, 500, 4096 + 8, 4096 + 104, 2 * 4096, 4 * 4096 - 1):
        damaged[place] ^= 1
        assert not sealed.holds(_read(data), at, reader(damaged))
        damaged[place] ^= 1
