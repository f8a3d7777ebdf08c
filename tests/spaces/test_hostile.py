"""Hostile page tables: an answer with a reason, in bounded time, the same from all kernels."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.errors import BadRecord, NotInDump, TranslationFault
from phypan.formats.hpte import POWER7_PAGE_SIZES
from phypan.kernels import tables
from phypan.kernels.hashed import page_hash
from phypan.memory import Extent, Hole, Memory, PageState
from phypan.platform.page_tables import LinuxTables, Page, process_table_entry
from phypan.spaces import batch
from phypan.spaces.batch import Range, TooManyEntries
from phypan.spaces.eras import PAGE_OFFSET
from phypan.spaces.facts import kernel_facts, radix_facts, user_facts
from phypan.spaces.hash import HashSpace
from phypan.spaces.hashtable import HashTable
from phypan.spaces.radix import Tree, process_tree, radix_space, tree
from phypan.spaces.resident import Resident
from phypan.spaces.vsid import SCHEMES
from phypan.stores import BytesStore
from tests.spaces.guest import MODES, Fetched, Ram, era, kernels
from tests.spaces.test_eras import EVERY_ERA, space_of

SEGMENTS = st.sampled_from([28, 40])  # shifts
START = 0x40000  # where the memory of these tests begins
SIZE = 0x40000


@st.composite
def entries(draw):
    """Anything; or what looks like a pointer, a leaf, a hugepd, a radix entry."""
    table = START + draw(st.integers(0, SIZE // 512 + 8)) * 512
    top = draw(st.sampled_from([0, 1 << 63, PAGE_OFFSET, 1 << 62, 3 << 62]))
    low = draw(st.sampled_from([0, 1, 2, 3, 5, 9, 13, 0x1F, 0x18E, 0x20 | 24, 0x28, 0x30, 0x38]))
    anything = draw(st.integers(0, (1 << 64) - 1))
    return draw(st.sampled_from([table | top | low, table ^ top ^ low, anything]))


@st.composite
def memories(draw):
    """Memory with entries here and there, and perhaps a hole in the middle."""
    data = bytearray(SIZE)
    order = draw(st.sampled_from(["big", "little"]))
    for _ in range(draw(st.integers(1, 60))):
        value, count = draw(entries()), draw(st.sampled_from([1, 1, 1, 40, 600]))
        at = draw(st.integers(0, SIZE // 8 - count)) * 8
        data[at : at + 8 * count] = value.to_bytes(8, order) * count
    hole = draw(st.none() | st.integers(0, SIZE // 4096 - 2))
    resident = draw(st.booleans())
    pieces = [(0, SIZE)] if hole is None else [(0, hole * 4096), (hole * 4096 + 4096, SIZE)]
    store = BytesStore(data) if resident else Fetched(data)
    extents = [Extent(START + a, b - a, store, a) for a, b in pieces]
    return Memory(extents), order


def all_ranges(memory, facts, budget):
    found: list[Range] = []
    try:
        for one in batch.ranges(Resident(memory), facts, budget=budget):
            found.append(one)
    except TooManyEntries:
        return "too many"
    return found


@EVERY_ERA
@settings(max_examples=12)
@given(memories(), st.data())
def test_all_kernels_say_the_same_of_any_memory(kind, described, data) -> None:
    memory, order = described
    root = START + data.draw(st.integers(0, SIZE // 4096)) * 4096
    make = data.draw(st.sampled_from([kernel_facts, user_facts]))
    facts = make(kind, root, native_big=order == "big")
    if data.draw(st.booleans()) and kind.mmu == "radix":
        facts = radix_facts(root, 52, data.draw(st.sampled_from([5, 9, 13])))
    draw_address = st.integers(facts[tables.FIRST], facts[tables.LAST]) | st.integers(
        0, (1 << 64) - 1
    )
    addresses = data.draw(st.lists(draw_address, min_size=1, max_size=30))
    results = []
    for how in MODES:
        space = space_of(kind, facts, memory)
        with kernels(how):
            many = space.translate_many(addresses)
            arrays = (many.physical, many.entries, many.shifts, many.faults)
            ranges = all_ranges(memory, facts, 1 << 14)
        results.append(([list(map(int, array)) for array in arrays], ranges))
    assert results[0] == results[1] == results[2]
    space = space_of(kind, facts, memory)
    for address, physical, fault in zip(addresses, *results[0][0][::3], strict=True):
        single = space.translate(address)
        assert (single.physical if single.fault is None else None) == (None if fault else physical)
        assert single.fault is None or single.fault


@EVERY_ERA
@pytest.mark.parametrize("how", MODES)
def test_a_table_that_leads_to_itself_ends(kind, how) -> None:
    """The first entry of the top table is the top table; a walk over all says so."""
    ram = Ram(8 << 20)
    model = LinuxTables(
        ram, ram.allocate, mmu=kind.mmu, page_shift=kind.page_shift, release=kind.since, order="big"
    )
    first = kind.region("vmalloc").first
    facts = kernel_facts(kind, model.root, native_big=True)
    _, shift, bits = kind.levels[0]
    index = first >> shift & (1 << bits) - 1
    below = kind.levels[1][2]
    ram.write(model.root + 8 * index, model.pointer(model.root, below).to_bytes(8, "big"))
    space = space_of(kind, facts, ram.memory())
    with kernels(how):
        found = [one for one in space.mappings() if one.fault]
    assert found
    assert {one.fault for one in found} == {"a page table that leads to itself"}
    answer = space.translate(first)
    assert len(answer.steps) <= 4
    assert answer.fault is None or "not" in answer.fault


@pytest.mark.parametrize("how", MODES)
def test_a_maze_of_tables_is_left_when_the_budget_is_spent(how) -> None:
    """Four tables, each entry of which leads to the next: 2^36 ways, most of them to one page."""
    kind = era("64K radix, Linux since 5.2")
    ram = Ram(1 << 20)
    sizes = [13, 9, 9, 5]
    found = [ram.allocate(8 << bits) for bits in sizes]
    page = (3 << 62 | ram.start | 0x18E).to_bytes(8, "big")
    for n, bits in enumerate(sizes):
        last = n + 1 == len(sizes)
        entry = page if last else (1 << 63 | found[n + 1] | sizes[n + 1]).to_bytes(8, "big")
        ram.write(found[n], entry * (1 << bits))
    facts = kernel_facts(kind, found[0], native_big=True)
    space = space_of(kind, facts, ram.memory())
    budget = {"plain": 1 << 18, "numpy": 1 << 22, "numba": batch.MAX_ENTRIES}[how]
    started = time.monotonic()
    with kernels(how):
        assert sum(1 for _ in space.mappings(budget=1 << 18)) <= 1 << 18
        (one,) = space.mappings(alike=True, budget=budget)
    assert one.size >= budget / 2 * 65536
    assert time.monotonic() - started < 60
    told = [str(problem) for problem in space._problems]
    assert [
        f"more than {n} entries" in text for n, text in zip((1 << 18, budget), told, strict=True)
    ]


def test_a_hole_in_the_middle_says_where_and_why() -> None:
    kind = era("64K hash, Linux since 5.2")
    ram = Ram()
    model = LinuxTables(
        ram, ram.allocate, mmu="hash", page_shift=16, release=(6, 12), order="little"
    )
    first = kind.region("vmalloc").first
    model.map(first, 0x123450000, Page(16))
    leaf = space_of(kind, kernel_facts(kind, model.root, native_big=False), ram.memory())
    table = leaf.translate(first).steps[-1].address & ~0xFFF
    store = BytesStore(ram.data)
    end = ram.start + len(ram.data)
    memory = Memory(
        [
            Extent(ram.start, table - ram.start, store, 0),
            Extent(table + 4096, end - table - 4096, store, table + 4096 - ram.start),
        ],
        [Hole(table, 4096, PageState.EXCLUDED, "filtered by level 31")],
    )
    space = space_of(kind, kernel_facts(kind, model.root, native_big=False), memory)
    found = space.translate(first)
    assert found.physical is None
    assert [step.level for step in found.steps] == ["PGD", "PUD", "PMD"]
    assert found.fault == (
        f"the PTE entry at physical address {table:#x} is not in the dump: filtered by level 31"
    )
    for how in MODES:
        with kernels(how):
            (one,) = [r for r in batch.ranges(Resident(memory), space.facts) if r.physical == table]
            assert one.fault == tables.NOT_RESIDENT
    with pytest.raises(TranslationFault, match="effective address 0xc008000000000000: the PTE"):
        space.read(first, 8)


def test_a_page_that_is_mapped_to_what_the_dump_lacks_is_not_zeros() -> None:
    kind = era("4K radix, Linux since 5.2")
    ram = Ram()
    model = LinuxTables(ram, ram.allocate, mmu="radix", page_shift=12, release=(6, 1), order="big")
    first = kind.region("vmalloc").first
    model.map(first, 0x7654000, Page(12))
    space = space_of(kind, kernel_facts(kind, model.root, native_big=True), ram.memory())
    assert space.translate(first).state is PageState.ABSENT
    with pytest.raises(NotInDump, match="physical address 0x7654010: absent"):
        space.read(first + 0x10, 4)


def test_an_address_outside_of_all_regions_is_said_to_be_so() -> None:
    kind = era("64K hash, Linux since 5.2")
    space = space_of(kind, kernel_facts(kind, 0, native_big=True), Ram().memory())
    for address in (0, 0x10000000, 0xB000000000000000, 0xC00F000000000000, (1 << 64) - 1):
        assert space.translate(address).fault == "outside of the address space"


@given(st.integers(0, (1 << 64) - 1))
def test_any_process_table_entry_leads_to_a_tree_or_is_refused(word) -> None:
    try:
        found = tree(word)
    except BadRecord:
        return
    space = radix_space(Resident(Memory([])), found, name="test")
    assert space.translate(0x1234).fault


@settings(max_examples=20)
@given(st.data(), st.booleans(), st.sampled_from(SCHEMES))
def test_all_kernels_say_the_same_of_any_hashed_page_table(data, v3, scheme) -> None:
    """Entries of no page size, of no group, beyond all memory, many for one page."""
    words = st.integers(0, (1 << 64) - 1)
    addresses = data.draw(st.lists(st.integers(0xC << 60, (1 << 64) - 1) | words, max_size=12))
    table = bytearray(1 << 18)
    for _ in range(data.draw(st.integers(1, 40))):
        first, second = data.draw(words) | 1, data.draw(words)
        place = data.draw(st.integers(0, (1 << 14) - 1))
        if addresses and data.draw(st.booleans()):  # one that a translation comes across
            address, shift = data.draw(st.sampled_from(addresses)), data.draw(SEGMENTS)
            number = scheme.vsid(address, shift) or 0
            first = (number << shift | address & (1 << shift) - 1) >> 23 << 7 & (1 << 62) - 1
            first |= 1 | data.draw(st.sampled_from([0, 4])) | (1 << 62 if shift == 40 else 0)
            base = data.draw(st.sampled_from([12, 16, 24]))
            group = page_hash(number, address & (1 << shift) - 1, shift, base) % (1 << 11)
            place = group * 8 + data.draw(st.integers(0, 7))
        table[place * 16 : place * 16 + 16] = first.to_bytes(8, "big") + second.to_bytes(8, "big")
    memory = Memory([Extent(0, len(table), BytesStore(table), 0)])
    results = []
    for how in MODES:
        with kernels(how):
            found = HashTable(memory, 0, len(table), POWER7_PAGE_SIZES, v3=v3)
            space = HashSpace("hostile", Memory([]), found, scheme)
            many = space.translate_many(addresses)
            arrays = (many.physical, many.entries, many.shifts, many.faults, many.indices)
            pages = [(p.entry, p.context, p.address) for p in found.pages(scheme)]
            counted = found.statistics(scheme)
        assert counted.entries == len(pages)
        results.append(([list(map(int, array)) for array in arrays], pages, counted))
    assert results[0] == results[1] == results[2]
    for address, physical, fault in zip(addresses, *results[0][0][::3], strict=True):
        single = space.translate(address)
        assert single.physical == (None if fault else physical)
        assert bool(single.fault) == bool(fault)


def test_the_trees_of_a_process_table() -> None:
    data = bytearray(4096)
    data[0x10:0x20] = process_table_entry(0x70000, 13)
    memory = Memory([Extent(0x5000, 4096, BytesStore(data), 0)])
    assert process_tree(memory, 0x5000, 1) == Tree(0x70000, 13, 52)
    assert process_table_entry(0x70000, 13)[:8].hex() == "40000000000700ad", "as Linux writes it"
    with pytest.raises(BadRecord, match="leads to no radix tree"):
        process_tree(memory, 0x5000, 2)
    with pytest.raises(NotInDump):
        process_tree(memory, 0x5000, 300)
