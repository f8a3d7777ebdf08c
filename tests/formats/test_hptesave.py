"""HPTE save areas: by hand from LoPAR, for nobody implements them; a second reader; damage."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import hpte, hptesave
from tests.damage import cut_short, flipped, refused, words_at_extremes
from tests.reference import hptesave as reference

# Written by hand from LoPAR: one entry, a page of 16 MiB of the VRMA. 0x3ffff8 is its place in a
# page table of 64 MiB.
ONE = bytes.fromhex(
    "4850544553415645 00000000 0000001C 0000000000000000 0000000000000001"
    "00000000003ffff8 4001ffffff000015 0000000000000190"
)


def test_an_area_written_by_hand_is_read() -> None:
    read = hptesave.read(ONE)
    assert read.problems == ()
    (entry,) = read.entries
    assert (entry.index, entry.first, entry.second) == (0x3FFFF8, 0x4001FFFFFF000015, 0x190)
    assert (entry.valid, entry.bolted, entry.secondary, entry.vrma) == (True, True, False, True)
    assert (entry.base_shift, entry.actual_shift, entry.real) == (24, 24, 0)
    assert entry.vsid == 0x1FFFFFF
    assert entry.virtual(1 << 19) == 0x1FFFFFF << 40
    assert hptesave.write([(0x3FFFF8, 0x4001FFFFFF000015, 0x190)]) == ONE


def test_both_readings_of_lopars_contradiction_agree() -> None:
    """NumEntries has eight bytes at 0x18; NumEntriesOffset is printed as 0x1c."""
    assert hptesave.read(ONE[:12] + b"\0\0\0\x18" + ONE[16:]) == hptesave.read(ONE)


@pytest.mark.parametrize("offset", [0x20, 0x24])
def test_a_header_that_has_grown_is_read_from_where_it_says(offset) -> None:
    width = 4 if offset % 8 else 8
    head = ONE[:12] + offset.to_bytes(4, "big") + bytes(offset - 16) + (1).to_bytes(width, "big")
    assert hptesave.read(head + ONE[0x20:]) == hptesave.read(ONE)


def test_an_area_of_a_page_has_room_for_169() -> None:
    """The size that both of Linux' documents show for the area, 0x1000."""
    area = hptesave.write([(n, 0x4001FFFFFF000015, 0x190) for n in range(169)])
    assert 0x1000 - 24 < len(area) <= 0x1000
    assert len(hptesave.read(area.ljust(0x1000, b"\0")).entries) == 169


u64 = st.integers(0, (1 << 64) - 1)
records = st.lists(st.tuples(u64, u64, u64), max_size=12)


@given(records, st.binary(max_size=30))
def test_what_is_written_is_read_as_a_second_reader_does(entries, tail) -> None:
    area = hptesave.write(entries) + tail
    read = hptesave.read(area)
    assert [(entry.index, entry.first, entry.second) for entry in read.entries] == entries
    assert reference.entries(area) == entries
    assert read.problems == ()


@given(records, st.integers(0, 30), st.sampled_from([0x18, 0x1C]), st.binary(max_size=30))
def test_a_second_reader_finds_the_same_in_any_area(entries, count, offset, tail) -> None:
    area = bytearray(hptesave.write(entries) + tail)
    area[12:16] = offset.to_bytes(4, "big")
    area[0x18:0x20] = count.to_bytes(8, "big")
    read = hptesave.read(bytes(area))
    assert [(e.index, e.first, e.second) for e in read.entries] == reference.entries(bytes(area))
    assert bool(read.problems) == (count > len(read.entries))


@given(u64, u64, u64)
def test_fields_are_those_of_the_isa(index, first, second) -> None:
    entry = hpte.decode(index, first, second)
    fields = reference.decoded(first, second)
    assert entry.valid == bool(fields["V"])
    assert entry.secondary == bool(fields["H"])
    assert entry.bolted == bool(fields["SW"] & 2)  # bit 59, says LoPAR
    assert entry.protection == fields["pp"]
    assert entry.key == fields["key"]
    assert entry.wimg == "".join(
        letter for letter, bit in zip("WIMG", f"{fields['WIMG']:04b}", strict=True) if bit == "1"
    )
    assert entry.segment_shift == (40 if fields["B"] & 1 else 28)
    assert entry.vsid == fields["AVPN"] >> (17 if fields["B"] & 1 else 5)
    shift = entry.actual_shift or 12
    assert entry.real == (fields["RPN"] << 12) >> shift << shift
    assert entry.vrma == (fields["B"] == 1 and fields["AVPN"] >> 17 == 0x1FFFFFF)


def test_a_version_from_the_future_is_said() -> None:
    read = hptesave.read(ONE[:11] + b"\1" + ONE[12:])
    assert read.version == 1
    assert "version 1" in read.problems[0].what


def test_what_does_not_fit_is_said() -> None:
    read = hptesave.read(ONE[:0x1F] + b"\x05" + ONE[0x20:])
    assert len(read.entries) == 1
    assert str(read.problems[0]) == (
        "HPTE save area: 5 entries announced, 1 fit; the first 1 were read"
    )


def test_a_cut_area_is_refused_or_says_what_is_lost() -> None:
    assert refused(hptesave.read, cut_short(ONE)) == 0x20
    for size in range(0x20, len(ONE)):
        read = hptesave.read(ONE[:size])
        assert read.entries == ()
        assert read.problems


@pytest.mark.parametrize("at", [0, 15, 0x37, 0xFFFFFFFF])
def test_a_count_outside_of_the_area_is_refused(at) -> None:
    with pytest.raises(BadRecord, match="number of entries"):
        hptesave.read(ONE[:12] + at.to_bytes(4, "big") + ONE[16:])


def test_every_word_at_extreme_values_is_read_or_refused() -> None:
    for width in (4, 8):
        refused(hptesave.read, words_at_extremes(ONE, width, "big"))


@given(flipped(ONE))
def test_flipped_bits_are_read_or_refused(area) -> None:
    refused(hptesave.read, [area])


def test_nonsense_costs_little() -> None:
    area = ONE[:0x18] + b"\xff" * 8 + struct.pack(">QQQ", 1, 2, 3) * (hptesave.MAX_ENTRIES + 1000)
    tracemalloc.start()
    read = hptesave.read(area)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read.entries) == hptesave.MAX_ENTRIES
    assert read.problems
    assert peak < 100 << 20


@pytest.mark.parametrize("entry", [(-1, 0, 0), (0, 1 << 64, 0)])
def test_what_is_no_doubleword_is_not_written(entry) -> None:
    with pytest.raises(BadRecord):
        hptesave.write([entry])
