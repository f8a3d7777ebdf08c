"""Page table entries: computed vectors, a real machine's hash page table, there and back again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.formats import hpte
from tests.reference import hptesave as reference

GOLDEN = Path(__file__).parent.parent / "golden"


def vectors() -> list[dict[str, str]]:
    """The lines of hash-vectors.txt: address, segment size, VSID, hashes."""
    pattern = re.compile(
        r"ea=(?P<ea>\S+) ssize=(?P<size>\S+) +vsid=(?P<vsid>\S+) +"
        r"hash16M=(?P<h24>\S+) hash4K=(?P<h12>\S+) hash64K=(?P<h16>\S+)"
    )
    lines = (GOLDEN / "hash-vectors.txt").read_text().splitlines()
    found = [pattern.search(line) for line in lines]
    return [match.groupdict() for match in found if match]


def test_hashes_are_those_that_were_computed_before() -> None:
    checked = 0
    for vector in vectors():
        ea, vsid = int(vector["ea"], 16), int(vector["vsid"], 16)
        segment = 28 if vector["size"] == "256M" else 40
        for shift in (12, 16, 24):
            expected = int(vector[f"h{shift}"], 16)
            assert hpte.primary_hash(vsid, ea, segment, shift) == expected
            checked += 1
    assert checked == 3 * 50


# A linear map's first page as Linux bolts it, computed before phypan was: (segment, VSID of address
# 0xc000000000000000 up to 3.6, doublewords, doublewords in the form of ISA 3.0, group in a table of
# 64 MiB under the primary hash).
BOLTED = [
    (28, 0x408F92C94, (0x408F92C94015, 0x190), (0x408F92C94015, 0x190), 0x12C94),
    (40, 0x4F7CA3, (0x40004F7CA3000015, 0x190), (0x4F7CA3000015, 0x400000000000190), 0x77CA3),
]


@pytest.mark.parametrize(("segment", "vsid", "old", "new", "group"), BOLTED)
def test_a_bolted_page_of_the_linear_map(segment, vsid, old, new, group) -> None:
    entry = hpte.decode(group * 8, *old)
    assert (entry.segment_shift, entry.vsid, entry.actual_shift) == (segment, vsid, 24)
    assert (entry.wimg, entry.protection, entry.bolted, entry.valid) == ("M", 0, True, True)
    assert not entry.vrma
    assert entry.virtual(1 << 19) == vsid << segment
    assert hpte.primary_hash(vsid, 0, segment, 24) & 0x7FFFF == group
    assert hpte.to_v3(*old) == new
    assert hpte.from_v3(*new) == old


@pytest.mark.parametrize(
    ("first", "offset", "group"),
    [
        (0x4001FFFFFF000015, 0, 0x7FFFF),
        (0x4001FFFFFF000115, 0x1000000, 0x7FFFE),
        (0x4001FFFFFF000F15, 0xF000000, 0x7FFF0),
    ],
)
def test_pages_of_the_vrma(first, offset, group) -> None:
    entry = hpte.decode(group * 8, first, offset | 0x190)
    assert entry.vrma
    assert entry.real == offset
    assert entry.virtual(1 << 19) == 0x1FFFFFF << 40 | offset
    assert hpte.primary_hash(0x1FFFFFF, offset, 40, 24) & 0x7FFFF == group


def test_the_reserved_segment_size_is_not_the_vrmas() -> None:
    assert not hpte.decode(0, 0xC001FFFFFF000015, 0x190).vrma


pages = st.sampled_from([pair for pair in hpte.POWER7_PAGE_SIZES if pair != (34, 34)])


@given(st.data(), pages, st.sampled_from([28, 40]), st.integers(11, 24), st.booleans())
def test_a_virtual_address_comes_back_from_where_its_hash_put_it(
    data, page, segment, log_groups, secondary
) -> None:
    """As a hypervisor enters it (ISA, "Page Table Search"), and as Linux decodes it."""
    base, actual = page
    vsid = data.draw(st.integers(0, (1 << (78 - segment)) - 1))  # a virtual address has 78 bits
    offset = data.draw(st.integers(0, (1 << (segment - actual)) - 1)) << actual
    groups = 1 << log_groups
    hashed = hpte.primary_hash(vsid, offset, segment, base)
    group = (~hashed if secondary else hashed) & (groups - 1)
    virtual = vsid << segment | offset
    avpn = virtual >> 23
    if base > 23:
        avpn &= ~((1 << (base - 23)) - 1)
    first = (avpn << 7) | ((segment == 40) << 62) | (secondary << 1) | 1
    first |= 0 if page == (12, 12) else 4
    second = hpte.POWER7_PAGE_SIZES[page] << 12
    entry = hpte.decode(group * 8, first, second, base_shift=base)
    assert (entry.base_shift, entry.actual_shift) == page
    assert (entry.vsid, entry.segment_shift) == (vsid, segment)
    assert entry.virtual(groups) == virtual


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_the_form_of_isa_3_and_back(first, second) -> None:
    """Bits 58 and 59 of the second doubleword are reserved in the old form, 52 to 61 of the first
    in the new: what lies there does not come back."""
    old = first & 0xC00FFFFFFFFFFFFF, second & ~(3 << 58)
    new = hpte.to_v3(*old)
    assert hpte.from_v3(*new) == old
    assert reference.bits(new[1], 4, 5) == reference.bits(old[0], 0, 1), "B moved"
    assert reference.bits(new[0], 0, 11) == 0


def test_a_page_size_that_nobody_encodes_so_is_unknown() -> None:
    entry = hpte.decode(0, 0x40004F7CA3000015, 0x2000)
    assert (entry.base_shift, entry.actual_shift) == (None, None)
    assert entry.real == 0x2000
    assert entry.virtual(1 << 11) >> 40 == entry.vsid


@pytest.mark.parametrize(
    ("second", "base", "page"),
    [
        (0x7000, None, (12, 16)),
        (0x38000, None, (12, 24)),
        (0x1000, None, (16, 16)),
        (0x8000, None, (16, 24)),
        (0x0, None, (24, 24)),
        (0x3000, None, (34, 34)),
        (0x1000, 12, (None, None)),
    ],
)
def test_page_sizes_of_power7(second, base, page) -> None:
    entry = hpte.decode(0, 4 | 1, second, base_shift=base)
    assert (entry.base_shift, entry.actual_shift) == page


def test_a_table_is_read_entry_by_entry() -> None:
    table = bytes(range(16)) + bytes(16) + b"tail"
    assert hpte.read(table) == [(0x0001020304050607, 0x08090A0B0C0D0E0F), (0, 0)]
    assert hpte.read(b"") == []


def test_a_real_machines_table_lies_where_its_hashes_say(real_dump) -> None:
    """QEMU's whole hash page table of a Linux guest: each entry is in the group that its virtual
    address hashes to, and the linear map, VSID 0xea1b217 (1 TiB) since 5.2, maps onto itself."""
    table = (real_dump("le-hash8").path / "hpt").read_bytes()
    groups = len(table) // hpte.GROUP_BYTES
    linear = checked = 0
    for index, (first, second) in enumerate(hpte.read(table)):
        if not first & hpte.VALID:
            continue
        entry = hpte.decode(index, first, second)
        assert entry.base_shift
        virtual = entry.virtual(groups)
        offset = virtual & (1 << entry.segment_shift) - 1
        hashed = hpte.primary_hash(entry.vsid, offset, entry.segment_shift, entry.base_shift)
        group = (~hashed if entry.secondary else hashed) & (groups - 1)
        assert group == index // hpte.SLOTS
        checked += 1
        if (entry.vsid, entry.segment_shift) == (0xEA1B217, 40):
            assert entry.real == offset
            assert entry.wimg == "M"
            linear += 1
    assert checked > 1000
    assert linear >= 1280 // 16, "all memory, in pages of 16 MiB"
