"""The hashed page table: the vectors of other implementations, and tables that the model makes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import BadRecord
from phypan.formats import device_tree, hpte
from phypan.kernels import hashed, segments, tables
from phypan.kernels.twins import segments as segments_twin
from phypan.memory import Extent, Memory
from phypan.platform import page_tables as model
from phypan.spaces.hash import HashSpace, Segment, slb_segment
from phypan.spaces.hashtable import HashTable, page_sizes
from phypan.spaces.vsid import SCHEMES, Scheme
from phypan.stores import BytesStore
from tests.spaces.guest import MODES, Fetched, kernels

EVERY_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def scheme(name: str) -> Scheme:
    return next(scheme for scheme in SCHEMES if scheme.name.startswith(name))


# --- vectors ------------------------------------------------------------------------------------

# Made with the formulae of Linux's get_kernel_vsid() and vsid_scramble() by a script that is not
# part of phypan: the hash of the page at the address, for 16M, 4K and 64K pages.
VECTORS = """
2.6.24-3.6  ea=0xc000000000000000 ssize=256M vsid=0x408f92c94  hash16M=0x408f92c94 hash4K=0x408f92c94 hash64K=0x408f92c94
2.6.24-3.6  ea=0xc000000000000000 ssize=1T   vsid=0x4f7ca3  hash16M=0x79464f7ca3 hash4K=0x79464f7ca3 hash64K=0x79464f7ca3
2.6.24-3.6  ea=0xc000000010000000 ssize=256M vsid=0x414f012af  hash16M=0x414f012af hash4K=0x414f012af hash64K=0x414f012af
2.6.24-3.6  ea=0xc000000010000000 ssize=1T   vsid=0x4f7ca3  hash16M=0x79464f7cb3 hash4K=0x79464e7ca3 hash64K=0x79464f6ca3
2.6.24-3.6  ea=0xc0000fff00000000 ssize=256M vsid=0xa2fa5cba3  hash16M=0xa2fa5cba3 hash4K=0xa2fa5cba3 hash64K=0xa2fa5cba3
2.6.24-3.6  ea=0xc0000fff00000000 ssize=1T   vsid=0x853965  hash16M=0x72ca85c665 hash4K=0x72c5753965 hash64K=0x72ca7a3965
2.6.24-3.6  ea=0xd000000000000000 ssize=256M vsid=0xf09b89af5  hash16M=0xf09b89af5 hash4K=0xf09b89af5 hash64K=0xf09b89af5
2.6.24-3.6  ea=0xd000000000000000 ssize=1T   vsid=0xeb71b0  hash16M=0x6360eb71b0 hash4K=0x6360eb71b0 hash64K=0x6360eb71b0
2.6.24-3.6  ea=0xf000000000000000 ssize=256M vsid=0x50b3777b9  hash16M=0x50b3777b9 hash4K=0x50b3777b9 hash64K=0x50b3777b9
2.6.24-3.6  ea=0xf000000000000000 ssize=1T   vsid=0x235bcc  hash16M=0x3798235bcc hash4K=0x3798235bcc hash64K=0x3798235bcc
3.7-3.8     ea=0xc000000000000000 ssize=256M vsid=0xc00838795  hash16M=0xc00838795 hash4K=0xc00838795 hash64K=0xc00838795
3.7-3.8     ea=0xc000000000000000 ssize=1T   vsid=0x1438795  hash16M=0xf2b438795 hash4K=0xf2b438795 hash64K=0xf2b438795
3.7-3.8     ea=0xc000000010000000 ssize=256M vsid=0xc0142d86e  hash16M=0xc0142d86e hash4K=0xc0142d86e hash64K=0xc0142d86e
3.7-3.8     ea=0xc000000010000000 ssize=1T   vsid=0x1438795  hash16M=0xf2b438785 hash4K=0xf2b428795 hash64K=0xf2b439795
3.7-3.8     ea=0xc0000fff00000000 ssize=256M vsid=0xb45677a08  hash16M=0xb45677a08 hash4K=0xb45677a08 hash64K=0xb45677a08
3.7-3.8     ea=0xc0000fff00000000 ssize=1T   vsid=0x79444f  hash16M=0x89e79bb4f hash4K=0x89189444f hash64K=0x89e86444f
3.7-3.8     ea=0xd000000000000000 ssize=256M vsid=0x25008684d8  hash16M=0x25008684d8 hash4K=0x25008684d8 hash64K=0x25008684d8
3.7-3.8     ea=0xd000000000000000 ssize=1T   vsid=0x2d684d8  hash16M=0x9b2d684d8 hash4K=0x9b2d684d8 hash64K=0x9b2d684d8
3.7-3.8     ea=0xf000000000000000 ssize=256M vsid=0x17008c7f5f  hash16M=0x17008c7f5f hash4K=0x17008c7f5f hash64K=0x17008c7f5f
3.7-3.8     ea=0xf000000000000000 ssize=1T   vsid=0x1fc7f5f  hash16M=0x7ebffc7f5f hash4K=0x7ebffc7f5f hash64K=0x7ebffc7f5f
3.9-4.11    ea=0xc000000000000000 ssize=256M vsid=0xaf32f5079  hash16M=0xaf32f5079 hash4K=0xaf32f5079 hash64K=0xaf32f5079
3.9-4.11    ea=0xc000000000000000 ssize=1T   vsid=0x16e7779  hash16M=0x6ef36e7779 hash4K=0x6ef36e7779 hash64K=0x6ef36e7779
3.9-4.11    ea=0xc000000010000000 ssize=256M vsid=0xaf3eea152  hash16M=0xaf3eea152 hash4K=0xaf3eea152 hash64K=0xaf3eea152
3.9-4.11    ea=0xc000000010000000 ssize=1T   vsid=0x16e7779  hash16M=0x6ef36e7769 hash4K=0x6ef36f7779 hash64K=0x6ef36e6779
3.9-4.11    ea=0xc0000fff00000000 ssize=256M vsid=0xa381342ef  hash16M=0xa381342ef hash4K=0xa381342ef hash64K=0xa381342ef
3.9-4.11    ea=0xc0000fff00000000 ssize=1T   vsid=0xa43436  hash16M=0x686ca4cb36 hash4K=0x6863543436 hash64K=0x686c5b3436
3.9-4.11    ea=0xd000000000000000 ssize=256M vsid=0x836935091  hash16M=0x836935091 hash4K=0x836935091 hash64K=0x836935091
3.9-4.11    ea=0xd000000000000000 ssize=1T   vsid=0x142add1  hash16M=0x5ba342add1 hash4K=0x5ba342add1 hash64K=0x5ba342add1
3.9-4.11    ea=0xf000000000000000 ssize=256M vsid=0x2bd5b50c1  hash16M=0x2bd5b50c1 hash4K=0x2bd5b50c1 hash64K=0x2bd5b50c1
3.9-4.11    ea=0xf000000000000000 ssize=1T   vsid=0xeb1a81  hash16M=0x3502eb1a81 hash4K=0x3502eb1a81 hash64K=0x3502eb1a81
4.12-5.1    ea=0xc000000000000000 ssize=256M vsid=0xea1b200017  hash16M=0x6a1b200017 hash4K=0x6a1b200017 hash64K=0x6a1b200017
4.12-5.1    ea=0xc000000000000000 ssize=1T   vsid=0xea1b217  hash16M=0x6420a1b217 hash4K=0x6420a1b217 hash64K=0x6420a1b217
4.12-5.1    ea=0xc000000010000000 ssize=256M vsid=0xea1bdf50f0  hash16M=0x6a1bdf50f0 hash4K=0x6a1bdf50f0 hash64K=0x6a1bdf50f0
4.12-5.1    ea=0xc000000010000000 ssize=1T   vsid=0xea1b217  hash16M=0x6420a1b207 hash4K=0x6420a0b217 hash64K=0x6420a1a217
4.12-5.1    ea=0xc0000fff00000000 ssize=256M vsid=0xa96003f288  hash16M=0x296003f288 hash4K=0x296003f288 hash64K=0x296003f288
4.12-5.1    ea=0xc0000fff00000000 ssize=1T   vsid=0x9d76ecf  hash16M=0x5d97d791cf hash4K=0x5d98276ecf hash64K=0x5d97286ecf
4.12-5.1    ea=0xd000000000000000 ssize=256M vsid=0xd43640002f  hash16M=0x543640002f hash4K=0x543640002f hash64K=0x543640002f
4.12-5.1    ea=0xd000000000000000 ssize=1T   vsid=0xd43642f  hash16M=0x485343642f hash4K=0x485343642f hash64K=0x485343642f
4.12-5.1    ea=0xf000000000000000 ssize=256M vsid=0xa86c80005f  hash16M=0x286c80005f hash4K=0x286c80005f hash64K=0x286c80005f
4.12-5.1    ea=0xf000000000000000 ssize=1T   vsid=0xa86c85f  hash16M=0x10b486c85f hash4K=0x10b486c85f hash64K=0x10b486c85f
5.2+64k     ea=0xc000000000000000 ssize=256M vsid=0xea1b200017  hash16M=0x6a1b200017 hash4K=0x6a1b200017 hash64K=0x6a1b200017
5.2+64k     ea=0xc000000000000000 ssize=1T   vsid=0xea1b217  hash16M=0x6420a1b217 hash4K=0x6420a1b217 hash64K=0x6420a1b217
5.2+64k     ea=0xc000000010000000 ssize=256M vsid=0xea1bdf50f0  hash16M=0x6a1bdf50f0 hash4K=0x6a1bdf50f0 hash64K=0x6a1bdf50f0
5.2+64k     ea=0xc000000010000000 ssize=1T   vsid=0xea1b217  hash16M=0x6420a1b207 hash4K=0x6420a0b217 hash64K=0x6420a1a217
5.2+64k     ea=0xc0000fff00000000 ssize=256M vsid=0xa96003f288  hash16M=0x296003f288 hash4K=0x296003f288 hash64K=0x296003f288
5.2+64k     ea=0xc0000fff00000000 ssize=1T   vsid=0x9d76ecf  hash16M=0x5d97d791cf hash4K=0x5d98276ecf hash64K=0x5d97286ecf
5.2+64k     ea=0xc008000000000000 ssize=256M vsid=0x9287a00077  hash16M=0x1287a00077 hash4K=0x1287a00077 hash64K=0x1287a00077
5.2+64k     ea=0xc008000000000000 ssize=1T   vsid=0x9287a77  hash16M=0x74e7287a77 hash4K=0x74e7287a77 hash64K=0x74e7287a77
5.2+64k     ea=0xc00c000000000000 ssize=256M vsid=0x66bde000a7  hash16M=0x66bde000a7 hash4K=0x66bde000a7 hash64K=0x66bde000a7
5.2+64k     ea=0xc00c000000000000 ssize=1T   vsid=0x66bdea7  hash16M=0x3d486bdea7 hash4K=0x3d486bdea7 hash64K=0x3d486bdea7
"""  # noqa: E501
NAMES = {
    "2.6.24-3.6": "2.6.24 to 3.6", "3.7-3.8": "3.7 to 3.8", "3.9-4.11": "3.9 to 4.11",
    "4.12-5.1": "4.12 to 5.1", "5.2+64k": "since 5.2, 64K pages",
}  # fmt: skip


def vectors():
    for line in VECTORS.strip().split("\n"):
        name, rest = line.split(maxsplit=1)
        ea, vsid, h16m, h4k, h64k = (
            int(re.search(rf"{key}=(0x[0-9a-f]+)", rest)[1], 16)
            for key in ("ea", "vsid", "hash16M", "hash4K", "hash64K")
        )
        yield NAMES[name], ea, 40 if "ssize=1T" in rest else 28, vsid, {24: h16m, 12: h4k, 16: h64k}


def test_vsids_and_hashes_are_those_of_the_vectors() -> None:
    count = 0
    for name, ea, shift, vsid, hashes in vectors():
        assert scheme(name).vsid(ea, shift) == vsid
        offset = ea & (1 << shift) - 1
        for base, expected in hashes.items():
            assert hashed.page_hash(vsid, offset, shift, base) == expected
            assert hpte.primary_hash(vsid, offset, shift, base) == expected
            count += 1
    assert count == 150


@pytest.mark.parametrize(
    ("large", "first", "second", "v3", "ptex"),
    [
        (False, 0x408F92C94015, 0x190, (0x408F92C94015, 0x190), 0x964A0),
        (True, 0x40004F7CA3000015, 0x190, (0x4F7CA3000015, 0x400000000000190), 0x3BE518),
    ],
)
def test_a_bolted_linear_page_is_where_the_vectors_have_it(large, first, second, v3, ptex) -> None:
    """16 MiB at physical address 0, 2.6.24 to 3.6, table of 64 MiB."""
    kind = scheme("2.6.24")
    for form, doublewords in ((False, (first, second)), (True, v3)):
        data = bytearray(1 << 26)
        hpte.ENTRY.pack_into(data, ptex * 16, *doublewords)
        space = space_of(bytes(data), kind, v3=form)
        found = space.translate(0xC000000000123456)
        assert (found.physical, found.page_size) == (0x123456, 1 << 24)
        (page,) = space.table.pages(kind)
        assert (page.entry.index, page.address, page.context) == (ptex, 0xC000000000000000, 0)
        assert (page.misplaced, page.duplicate, page.entry.bolted) == (False, False, True)


# Of a table of 16 MiB of Linux 6.12 with 4K pages, as QEMU held it when that kernel crashed: index,
# doublewords; the effective address, and what the kernel's own page tables have for it.
REAL_4K = (
    (0x55680, 0x400A3AAAD8008001, 0x2000800001AC, 0xC0003E0080008000, 0x200080000000),
    (0xD3D10, 0x400AD9A7E7000001, 0x27F6194, 0xC0003D0000045000, 0x27F6000),
    (0xD6E40, 0x40099BADC9000115, 0x47000194, 0xC0003F0001000000, 0x47000000),
    (0xD9000, 0x400EA1B217001715, 0x17000194, 0xC000000017000000, 0x17000000),
)


def test_entries_of_a_real_kernel_with_4k_pages_translate_as_its_page_tables_do() -> None:
    """One of each region: IO, vmalloc, vmemmap and the linear map have contexts 3, 2, 4 and 1."""
    data, kind = bytearray(1 << 24), scheme("since 5.2, 4K pages")
    for index, first, second, _, _ in REAL_4K:
        hpte.ENTRY.pack_into(data, index * 16, first, second)
    for how in MODES:
        with kernels(how):
            space = space_of(data, kind)
            many = space.translate_many([row[3] + 0x321 for row in REAL_4K])
            assert [int(p) for p in many.physical] == [row[4] + 0x321 for row in REAL_4K]
            found = [(p.entry.index, p.address, p.context) for p in space.table.pages(kind)]
            assert found == [(row[0], row[3], 0) for row in REAL_4K]


@pytest.mark.parametrize(
    ("offset", "first", "ptex"),
    [
        (0x0, 0x4001FFFFFF000015, 0x3FFFF8),
        (0x1000000, 0x4001FFFFFF000115, 0x3FFFF0),
        (0xF000000, 0x4001FFFFFF000F15, 0x3FFF80),
    ],
)
def test_vrma_pages_are_where_the_vectors_have_them(offset, first, ptex) -> None:
    data = bytearray(1 << 26)
    hpte.ENTRY.pack_into(data, ptex * 16, first, 0x190 | offset)
    table = table_of(bytes(data))
    (page,) = table.pages(scheme("2.6.24"))
    assert (page.context, page.address, page.entry.real) == (None, offset, offset)
    assert not page.misplaced


# --- properties ----------------------------------------------------------------------------------


def table_of(data, sizes=hpte.POWER7_PAGE_SIZES, *, v3=False, resident=True) -> HashTable:
    store = BytesStore(data) if resident else Fetched(data)
    return HashTable(Memory([Extent(0, len(data), store, 0)]), 0, len(data), sizes, v3=v3)


def space_of(data, kind, *, v3=False, resident=True, **more) -> HashSpace:
    table = table_of(data, v3=v3, resident=resident)
    return HashSpace("hpt", Memory([]), table, kind, **more)


def kernel_addresses(kind: Scheme) -> st.SearchStrategy[int]:
    """Addresses that kernels of this scheme use."""
    if kind.kernel == segments.REGION:
        small = kind.page_shift == 12
        starts = [
            0xC000000000000000,
            kind.virtual_start,
            kind.virtual_start + (2 << (40 if small else 49)),
        ]
        room = 40
    else:
        starts, room = [0xC000000000000000, 0xD000000000000000, 0xF000000000000000], 46
        if kind.kernel == segments.NIBBLE and kind.first_context != 1:
            room = 45
    return st.builds(
        lambda start, at: start + at, st.sampled_from(starts), st.integers(0, (1 << room) - 1)
    )


@EVERY_SCHEME
@given(st.data())
def test_segments_are_the_models_and_can_be_undone(scheme, data) -> None:
    address = data.draw(kernel_addresses(scheme))
    for row, shift in ((0, 28), (segments.SEGMENT_WORDS, 40)):
        number = scheme.vsid(address, shift)
        release, page_shift = scheme.since, scheme.page_shift or 16
        if "65-bit" not in scheme.name:
            assert number == model.kernel_vsid(release, page_shift, address, shift)
        assert segments.segment(scheme.words, row, number) == (0, address >> shift << shift)
        context = data.draw(st.integers(8, 0x7FF0))
        user = data.draw(st.integers(0, (1 << 43) - 1))
        number = scheme.vsid(user, shift, context)
        if "65-bit" not in scheme.name:
            assert number == model.user_vsid(release, context, user, shift)
        assert segments.segment(scheme.words, row, number) == (context, user >> shift << shift)


@EVERY_SCHEME
@given(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=20), st.integers(0, 0x7FFFF))
def test_the_twin_of_the_segments_agrees_on_all_addresses(scheme, addresses, context) -> None:
    import numpy as np

    for row in (0, segments.SEGMENT_WORDS):
        words = np.array(scheme.words, np.uint64)
        twin = segments_twin.vsids(words, row, context, np.array(addresses, np.uint64))
        plain = [segments.vsid(scheme.words, row, context, address) for address in addresses]
        assert twin.tolist() == plain


PAGES = sorted(model.LP)


@st.composite
def hashed_pages(draw, kind: Scheme):
    """(effective address, context, page of the model) of pages that do not overlap."""
    chosen = []
    taken: set[tuple[int, int]] = set()
    for _ in range(draw(st.integers(1, 30))):
        base, actual = draw(st.sampled_from(PAGES))
        segment_shift = 40 if base == 34 else draw(st.sampled_from([28, 40]))
        user = draw(st.booleans())
        context = draw(st.integers(8, 40)) if user else 0
        address = draw(st.integers(0, (1 << 42) - 1)) if user else draw(kernel_addresses(kind))
        address = address >> base << base
        segment = (context, address >> 40)
        if segment in taken:  # a segment has one size and one base page size
            continue
        taken.add(segment)
        real = draw(st.integers(0, (1 << 44) - 1)) >> actual << actual
        page = model.HashedPage(
            vsid=kind.vsid(address, segment_shift, context),
            segment_shift=segment_shift,
            offset=address & (1 << segment_shift) - 1,
            base_shift=base,
            actual_shift=actual,
            real=real,
            pp=draw(st.sampled_from([0, 1, 2, 3, 6])),
            execute=draw(st.booleans()),
            bolted=draw(st.booleans()),
            wimg=draw(st.sampled_from([2, 6, 7])),
        )
        chosen.append((address, context, page, draw(st.booleans())))
    return chosen


@EVERY_SCHEME
@settings(max_examples=8)
@given(st.data())
def test_what_the_model_enters_is_found_by_every_kernel(scheme, data) -> None:
    v3 = data.draw(st.booleans())
    made = model.HashedTable(data.draw(st.sampled_from([18, 18, 19])), v3=v3)
    entered = []
    for address, context, page, secondary in data.draw(hashed_pages(scheme)):
        index = made.enter(page, secondary=secondary)
        if index is not None:
            entered.append((address, context, page, index))
    contexts = sorted({context for _, context, _, _ in entered})
    results = {}
    for how in MODES:
        with kernels(how):
            results[how] = [_translated(made, scheme, v3, context, entered) for context in contexts]
            results[how].append(_scanned(made, scheme, v3, entered))
    assert results["numba"] == results["numpy"] == results["plain"]


def _translated(made, scheme, v3, context, entered):
    space = space_of(made.data, scheme, v3=v3, context=context)
    mine = [(a, p, i) for a, c, p, i in entered if c == context]
    inside = [(1 << page.base_shift) - 4 for _, page, _ in mine]
    found = space.translate_many([a + n for (a, _, _), n in zip(mine, inside, strict=True)])
    for n, (address, page, index) in enumerate(mine):
        low = (address + inside[n]) & (1 << page.actual_shift) - 1
        assert int(found.faults[n]) == tables.OK
        assert int(found.physical[n]) == page.real | low
        assert int(found.shifts[n]) == page.actual_shift
        assert int(found.indices[n]) == index
        one = space.translate(address + inside[n])
        assert (one.physical, one.page_size) == (page.real | low, 1 << page.actual_shift)
        if context:
            assert one.protection.write == (page.pp == 2)
        else:
            assert one.protection.write == (page.pp in (0, 1, 2))
        assert one.protection.execute == page.execute
        assert one.protection.inhibited == (page.wimg != 2)
    away = space.translate_many([(a ^ 1 << 36) for a, _, _ in mine])
    return [list(map(int, array)) for batch in (found, away) for array in (
        batch.physical, batch.entries, batch.shifts, batch.faults, batch.indices
    )]  # fmt: skip


def _scanned(made, scheme, v3, entered):
    table = table_of(made.data, v3=v3)
    pages = list(table.pages(scheme))
    expected = sorted((index, context, address) for address, context, _, index in entered)
    known = {index: page for _, _, page, index in entered}
    assert [(p.entry.index, p.context, p.address) for p in pages] == expected
    for page in pages:
        original = known[page.entry.index]
        assert page.entry.actual_shift == original.actual_shift
        assert page.entry.real == original.real
        assert page.entry.bolted == original.bolted
        assert not page.misplaced
        assert not page.duplicate
    counted = table.statistics(scheme)
    assert counted.entries == len(entered)
    assert counted.kernel == sum(not context for _, context, _, _ in entered)
    assert sum(counted.occupancy) == table.groups
    assert sum(n * count for n, count in enumerate(counted.occupancy)) == len(entered)
    return [(p.entry, p.context, p.address) for p in pages], counted


def test_a_table_that_is_not_resident_is_fetched() -> None:
    kind = scheme("since 5.2, 64K")
    made = model.HashedTable(20)
    for n in range(200):
        address = 0xC000000000000000 + (n << 16)
        made.enter(page_at(kind, address, n << 16))
    for how in MODES:
        with kernels(how):
            space = space_of(made.data, kind, resident=False)
            found = space.translate_many(0xC000000000000000 + (n << 16) for n in range(200))
            assert list(map(int, found.physical)) == [n << 16 for n in range(200)]
            assert len(list(space.table.pages(kind))) == 200


def page_at(kind, address, real, **more):
    return model.HashedPage(
        kind.vsid(address, 40), 40, address & (1 << 40) - 1, 16, 16, real, **more
    )


def test_the_ninth_page_of_a_group_is_in_the_secondary_one() -> None:
    """Eight pages of other segments fill a group; the next one is found by the other hash."""
    kind = scheme("since 5.2, 64K")
    made = model.HashedTable(18)
    wanted = page_at(kind, 0xC000000000000000, 0)
    group = hashed.page_hash(wanted.vsid, 0, 40, 16) % made.groups
    filled = 0
    for n in range(1, 1 << 20):
        if filled == 8:
            break
        page = page_at(kind, 0xC000000000000000 + (n << 16), n << 16)
        if hashed.page_hash(page.vsid, page.offset, 40, 16) % made.groups == group:
            assert made.enter(page) // 8 == group
            filled += 1
    index = made.enter(wanted)
    assert index // 8 == ~group % made.groups
    found = space_of(made.data, kind).translate(0xC000000000001234)
    assert found.physical == 0x1234
    assert found.steps[0].level == f"HPTE {index:#x}, secondary group"


def test_entries_that_are_wrong_are_named() -> None:
    kind = scheme("since 5.2, 64K")
    made = model.HashedTable(18)
    good, twice = page_at(kind, 0xC000000000000000, 0), page_at(kind, 0xC000000000010000, 1 << 16)
    made.enter(good)
    first, second = made.enter(twice), made.enter(twice)
    at = made.enter(page_at(kind, 0xC000000020000000, 0x20000000))  # to be moved
    made.data[at * 16 ^ 1 << 17 : (at * 16 ^ 1 << 17) + 16] = made.data[at * 16 : at * 16 + 16]
    made.data[at * 16 : at * 16 + 16] = bytes(16)
    for how in MODES:
        with kernels(how):
            pages = {page.entry.index: page for page in table_of(made.data).pages(kind)}
            assert [i for i, page in pages.items() if page.duplicate] == [max(first, second)]
            assert [i for i, page in pages.items() if page.misplaced] == [at ^ 1 << 13]
            assert not pages[min(first, second)].duplicate


@given(
    st.integers(0, (1 << 36) - 1), st.integers(0, (1 << 26) - 1), st.sampled_from([12, 16, 24, 34])
)
def test_slb_entries_are_read(esid, number, base) -> None:
    """The doublewords that slbmte takes: Power ISA, "SLB Management Instructions"."""
    llp = {12: 0x000, 16: 0x110, 24: 0x100, 34: 0x120}[base]
    small = slb_segment(esid << 28 | 0x08000000 | 3, number << 12 | 0x400 | llp)
    assert small == Segment(esid << 28, 28, number, base)
    large = slb_segment(esid << 28 | 0x08000000, 1 << 62 | number << 24 | 0xC80 | llp)
    assert large == Segment(esid << 28 >> 40 << 40, 40, number, base)
    assert slb_segment(esid << 28, number << 12 | llp) is None


def test_an_slb_entry_of_no_page_size_is_refused() -> None:
    with pytest.raises(BadRecord, match="no page size has L and LP"):
        slb_segment(0xC000000008000000, 0x400EA1B217000530)


@pytest.mark.parametrize("size", [0, 64, 1 << 17, 3 << 20, 1 << 47])
def test_a_table_of_no_possible_size_is_refused(size) -> None:
    with pytest.raises(BadRecord, match="not a power of two"):
        HashTable(Memory([]), 0, size, hpte.POWER7_PAGE_SIZES)


def test_page_sizes_come_from_the_device_tree() -> None:
    cells = [12, 0, 3, 12, 0, 16, 7, 24, 0x38, 16, 0x110, 2, 16, 1, 24, 8, 24, 0x100, 1, 24, 0]
    data = b"".join(cell.to_bytes(4, "big") for cell in cells)
    cpu = device_tree.Node("PowerPC,POWER8@0", {"ibm,segment-page-sizes": data})
    root = device_tree.Node("/", {}, (device_tree.Node("cpus", {}, (cpu,)),))
    expected = dict(hpte.POWER7_PAGE_SIZES)
    del expected[34, 34]
    assert page_sizes(root) == expected
    assert page_sizes(None) == hpte.POWER7_PAGE_SIZES


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=40))
def test_any_page_sizes_in_a_device_tree_are_survived(cells) -> None:
    data = b"".join(cell.to_bytes(4, "big") for cell in cells)
    cpu = device_tree.Node("PowerPC,POWER8@0", {"ibm,segment-page-sizes": data})
    page_sizes(device_tree.Node("/", {}, (device_tree.Node("cpus", {}, (cpu,)),)))


# --- segments of a kernel with 4K pages ---------------------------------------------------------

# SLB entries of a Linux 6.12 with 4K pages, as QEMU had them when it crashed.
SLB_4K = [
    (0xC000000008000000, 0x400EA1B217000500),  # linear map
    (0xC0003D0008000000, 0x400AD9A7E7000400),  # vmalloc
    (0xC0003E0008000000, 0x400A3AAAD8000400),  # IO
    (0xC0003F0008000000, 0x40099BADC9000500),  # vmemmap
]


@pytest.mark.parametrize("entry", SLB_4K, ids=lambda entry: f"{entry[0]:x}")
def test_segments_of_a_kernel_with_4k_pages_are_those_that_a_cpu_had(entry) -> None:
    segment = slb_segment(*entry)
    assert segment is not None
    made = scheme("since 5.2, 4K pages").vsid(segment.address, segment.shift)
    assert made == segment.vsid
