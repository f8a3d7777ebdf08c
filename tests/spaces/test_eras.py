"""Page tables of every era, built by the model and read back: one address, many, all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.memory import Extent, Memory, PageState
from phypan.platform.page_tables import LinuxTables, Page, index_bits
from phypan.spaces import batch
from phypan.spaces.eras import ERAS, HugeDirectory, kernel_facts, user_facts
from phypan.spaces.linux import TreeSpace, era_levels, protection
from phypan.spaces.resident import Resident
from phypan.stores import BytesStore
from tests.spaces.guest import MODES, Fetched, Ram, era, kernels

HUGE = {"hash": (24, 34), "radix": (21, 30)}


@dataclass(frozen=True)
class Mapped:
    effective: int
    physical: int
    page: Page


def shifts(kind):
    """Page sizes that an era can map."""
    return (kind.page_shift, *HUGE[kind.mmu])


@st.composite
def mappings(draw, kind, base, bits):
    """Pages that do not overlap, many of them neighbours."""
    chosen: dict[tuple[int, int], Mapped] = {}
    for _ in range(draw(st.integers(1, 10))):
        shift = draw(st.sampled_from(shifts(kind)))
        if shift >= bits:
            continue
        effective = base + (draw(st.integers(0, (1 << bits) - 1)) >> shift << shift)
        physical = draw(st.integers(0, (1 << 46) - 1)) >> shift << shift
        flags = st.booleans()
        page = Page(shift, draw(flags), draw(flags), draw(flags), draw(flags))
        for n in range(draw(st.integers(1, 3))):
            one = Mapped(effective + (n << shift), physical + (n << shift), page)
            if one.effective + (1 << shift) > base + (1 << bits) or one.physical >> 47:
                break
            span = (one.effective, one.effective + (1 << shift))
            # a huge page under hugepd has all of the range of its upper entry to its size
            near = 40 if max(shift, *(m.page.shift for m in chosen.values()), 0) > 16 else shift
            if any(
                (a < span[1] and span[0] < b)
                or (m.page.shift != shift and a >> near == span[0] >> near)
                for (a, b), m in chosen.items()
            ):
                break
            chosen[span] = one
    return sorted(chosen.values(), key=lambda one: one.effective)


EVERY_ERA = pytest.mark.parametrize("kind", ERAS, ids=lambda kind: kind.name)


@st.composite
def address_spaces(draw, kind):
    """(byte order, whether it is the kernel's, pages)."""
    kernel = draw(st.booleans())
    if kernel:
        region = kind.region(draw(st.sampled_from(["vmalloc", "io"])))
        bits = min((region.last - region.first + 1).bit_length() - 1, 42)
        pages = draw(mappings(kind, region.first, bits))
    else:
        pages = draw(mappings(kind, 0, min(kind.address_bits, 43)))
    return draw(st.sampled_from(["big", "little"])), kernel, pages


def build(kind, order, kernel, pages, ram):
    tables = LinuxTables(
        ram, ram.allocate, mmu=kind.mmu, page_shift=kind.page_shift, release=kind.since, order=order
    )
    for one in pages:
        tables.map(one.effective, one.physical, one.page)
    make = kernel_facts if kernel else user_facts
    return make(kind, tables.root, native_big=order == "big")


def space_of(kind, facts, memory):
    return TreeSpace(
        "test", Resident(memory), facts, era_levels(kind), partial(protection, kind.entries)
    )


def merged(pages):
    """What a walk over all tables must say."""
    result: list[list[int]] = []
    for one in pages:
        size = 1 << one.page.shift
        last = result[-1] if result else None
        same = last and last[0] + last[1] == one.effective and last[2] + last[1] == one.physical
        if last and same and last[3:] == [one.page.shift, one.page]:
            last[1] += size
        else:
            result.append([one.effective, size, one.physical, one.page.shift, one.page])
    return [tuple(row[:4]) for row in result]


@EVERY_ERA
@settings(max_examples=25)
@given(st.data())
def test_what_the_model_maps_is_read_back_in_every_era(kind, data) -> None:
    order, kernel, pages = data.draw(address_spaces(kind))
    ram = Ram()
    facts = build(kind, order, kernel, pages, ram)
    space = space_of(kind, facts, ram.memory())
    addresses, expected = [], []
    for one in pages:
        inside = data.draw(st.integers(0, (1 << one.page.shift) - 1))
        found = space.translate(one.effective + inside)
        assert found.fault is None
        assert found.physical == one.physical + inside
        assert found.page_size == 1 << one.page.shift
        assert found.steps[0].address - facts[0] < 8 << kind.levels[0][2]
        allowed = found.protection
        assert allowed is not None
        assert allowed.read
        assert (allowed.write, allowed.execute, allowed.user, allowed.inhibited) == (
            one.page.write, one.page.execute, one.page.user, one.page.uncached,
        )  # fmt: skip
        addresses += [one.effective + inside, (one.effective + (1 << one.page.shift)) % (1 << 64)]
        expected.append(one.physical + inside)
    results = {}
    for how in MODES:
        with kernels(how):
            many = space.translate_many(addresses)
            assert [int(p) for p in many.physical[::2]] == expected
            results[how] = [list(map(int, a)) for a in (
                many.physical, many.entries, many.shifts, many.faults
            )]  # fmt: skip
            found = [(r.first, r.size, r.physical, r.shift) for r in batch.ranges(
                space.resident, facts
            )]  # fmt: skip
            assert found == merged(pages)
    assert results["numba"] == results["numpy"] == results["plain"]
    for address, physical, fault in zip(addresses, *results["plain"][::3], strict=True):
        single = space.translate(address)
        assert (single.physical is None) == bool(fault)
        assert fault or single.physical == physical


@EVERY_ERA
@settings(max_examples=3)
@given(st.data())
def test_memory_that_is_not_resident_is_fetched_page_by_page(kind, data) -> None:
    order, kernel, pages = data.draw(address_spaces(kind))
    ram = Ram(start=0x123000)
    facts = build(kind, order, kernel, pages, ram)
    for how in MODES:
        store = Fetched(ram.data)
        memory = Memory([Extent(ram.start, len(ram.data), store, 0)])
        space = space_of(kind, facts, memory)
        with kernels(how):
            many = space.translate_many([one.effective for one in pages])
            assert [int(p) for p in many.physical] == [one.physical for one in pages]
            again = [(r.first, r.size, r.physical, r.shift) for r in batch.ranges(
                Resident(memory), facts
            )]  # fmt: skip
        assert again == merged(pages)
        assert all(size <= 65536 for _, size in store.asked), "never all of it at once"


def test_the_model_and_the_reader_know_the_same_geometry() -> None:
    """Two tables written apart; index bits here from the PTE up, there from the PGD down."""
    for kind in ERAS:
        for release in (kind.since, _last(kind)):
            assert index_bits(kind.mmu, kind.page_shift, release) == kind.index_bits[::-1], (
                kind.name
            )


def _last(kind):
    if kind.until is None:
        return (7, 0)
    major = (*kind.until[:-1], kind.until[-1] - 1)
    return major if kind.until[-1] else (kind.until[0] - 1, 99)


def test_every_row_of_the_geometry_is_an_era() -> None:
    """Page size, MMU, a release, index bits PTE/PMD/PUD/PGD, shifts of PMD, PUD, PGD: as the
    kernel's headers have them."""
    rows = (
        (12, "hash", (3, 6), (9, 7, 7, 9), (21, 28, 35)),
        (12, "hash", (6, 1), (9, 7, 9, 9), (21, 28, 37)),
        (16, "hash", (2, 6, 32), (12, 12, 0, 4), (28, None, 40)),
        (16, "hash", (3, 8), (12, 12, 0, 6), (28, None, 40)),
        (16, "hash", (3, 10), (8, 10, 0, 12), (24, None, 34)),
        (16, "hash", (4, 9), (8, 5, 5, 12), (24, 29, 34)),
        (16, "hash", (4, 14), (8, 10, 7, 8), (24, 34, 41)),
        (16, "hash", (5, 10), (8, 10, 10, 8), (24, 34, 44)),
        (12, "radix", (4, 19), (9, 9, 9, 13), (21, 30, 39)),
        (16, "radix", (6, 12), (5, 9, 9, 13), (21, 30, 39)),
    )
    for page_shift, mmu, release, bits, expected in rows:
        kind = next(
            kind for kind in ERAS
            if (kind.page_shift, kind.mmu) == (page_shift, mmu)
            and kind.since <= release and (kind.until is None or release < kind.until)
        )  # fmt: skip
        assert kind.index_bits == bits
        found = {name: shift for name, shift, _ in kind.levels}
        assert tuple(found.get(name) for name in ("PMD", "PUD", "PGD")) == expected


def test_names_of_eras_are_unique_and_spans_follow_each_other() -> None:
    assert len({kind.name for kind in ERAS}) == len(ERAS)
    for before, after in pairwise(ERAS):
        if (before.mmu, before.page_shift) == (after.mmu, after.page_shift):
            assert before.until == after.since
            assert before != after


# --- libkdumpfile's own vectors (tests/addrxlat-ppc64-64k, without vmemmap) -----------------------

# physical or effective address of an entry -> its value: 64K pages, 16/12/12/4, RPN at bit 30
LKF_ENTRIES = {
    0x0000: 0xC000000000008000, 0x0008: 0xC000000000020000, 0x0010: 0x0300000000000003,
    0x0018: 0x400000000004002C,
    0xC000000000008000: 0xC000000000010000, 0xC000000000008008: 0x340000000003,
    0xC000000000008010: 0x4000000000050020,
    0xC000000000010000: 0x280000391, 0xC000000000020010: 0xC000000000030000,
    0xC000000000030018: 0x2C0000391, 0xC000000000040010: 0xE00000000003,
    0xC000000000050018: 0x3C000000003,
}  # fmt: skip
LKF_PAGES = {0xD000000000001234: 0xA1234, 0xD000010020034567: 0xB4567}
# Its reading of huge pages mixes two releases: leaves by the low bits and page sizes by index came
# with 3.10, and the geometry and the top bit of hugepd went with it.
LKF_HUGE = {
    0xD000023456789ABC: 0xC3456789ABC, 0xD000000012345678: 0xD2345678,
    0xD000030087654321: 0x387654321, 0xD000000023456789: 0xF456789,
}  # fmt: skip


@pytest.mark.parametrize("order", ["big", "little"])
def test_libkdumpfiles_vectors(order) -> None:
    kind = era("64K hash, Linux 2.6.21 to 3.6")
    data = bytearray(0x60000)
    for address, value in LKF_ENTRIES.items():
        at = address & 0xFFFFFFFFFF
        data[at : at + 8] = value.to_bytes(8, order)
    memory = Memory([Extent(0, len(data), BytesStore(data), 0)])
    mixed = replace(kind, entries=replace(
        kind.entries, leaf=0x3,
        huge=HugeDirectory(1 << 63, 0, (1 << 64) - 1, (1 << 64) - 64, 1 << 63, direct=False),
    ))  # fmt: skip
    for one, vectors in ((kind, LKF_PAGES), (mixed, {**LKF_PAGES, **LKF_HUGE})):
        space = space_of(one, kernel_facts(one, 0, native_big=order == "big"), memory)
        assert {a: space.translate(a).physical for a in vectors} == vectors
        for how in MODES:
            with kernels(how):
                many = space.translate_many(vectors)
                assert [int(p) for p in many.physical] == list(vectors.values())


def test_reading_goes_across_pages_that_lie_apart() -> None:
    ram = Ram()
    kind = era("4K hash, Linux since 5.2")
    start = kind.region("vmalloc").first
    pages = [
        Mapped(start + n * 4096, ram.start + (3 << 20) + where * 4096, Page(12))
        for n, where in enumerate((5, 0, 9))
    ]
    facts = build(kind, "big", True, pages, ram)
    for n, one in enumerate(pages):
        ram.write(one.physical, bytes([n + 1]) * 4096)
    space = space_of(kind, facts, ram.memory())
    assert space.read(start + 4000, 96 + 4096 + 4) == b"\1" * 96 + b"\2" * 4096 + b"\3" * 4
    assert space.translate(start).state is PageState.PRESENT
