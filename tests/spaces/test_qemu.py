"""QEMU's MMU asked the same as phypan: radix trees, and hashed page tables of both forms.

What the model of the tables, QEMU and phypan have in common is the Power ISA.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from phypan.formats import hpte
from phypan.kernels import tables
from phypan.platform import page_tables as model
from phypan.spaces.hash import HashSpace, slb_segment
from phypan.spaces.hashtable import HashTable
from phypan.spaces.radix import QUADRANT_3, process_tree, radix_space
from phypan.spaces.resident import Resident
from phypan.spaces.space import Space
from phypan.spaces.vsid import SCHEMES
from tests.spaces import qemu
from tests.spaces.guest import MODES, Ram, kernels

MIB, GIB = 1 << 20, 1 << 30
PAGE_OFFSET = model.PAGE_OFFSET


def guest(size: int = 12 * MIB) -> Ram:
    """Memory from 0 on with a branch from where the machine begins, and vectors that stop it."""
    ram = Ram(size, 0)
    ram.allocate(MIB)
    for vector in range(0x100, 0x1000, 0x20):
        ram.write(vector, (0x48000000).to_bytes(4, "big"))  # b .
    ram.write(qemu.ENTRY, (0x48000000 | qemu.CODE - qemu.ENTRY).to_bytes(4, "big"))
    return ram


def asked(peer, folder, machine, ram, addresses):
    """What QEMU's MMU has for each address."""
    memory = folder / "memory"
    memory.write_bytes(ram.data)
    with qemu.Machine(peer("qemu-system-ppc64"), machine, memory) as running:
        return dict(zip(addresses, running.physical(addresses), strict=True))


def assert_same(space: Space, said: dict[int, int | None]) -> None:
    """One by one, and at once by every kernel."""
    assert {address: space.translate(address).physical for address in said} == said
    for how in MODES:
        with kernels(how):
            many = space.translate_many(list(said))
            found = [
                None if fault else physical
                for physical, fault in zip(
                    many.physical.tolist(), many.faults.tolist(), strict=True
                )
            ]
        assert found == list(said.values())


def near(rng: random.Random, address: int, size: int) -> list[int]:
    """Addresses in a page, and the first ones before and behind it."""
    inside = [address, address + size - 1, address + rng.randrange(size)]
    return [*inside, address - 1, address + size]


# --- radix ----------------------------------------------------------------------------------------


def fill(rng: random.Random, made: model.LinuxTables, start: int, *, user: bool) -> dict[int, int]:
    """Pages of every size here and there, 1 GiB of addresses for each size: address -> size."""
    found = {}
    for n in range(24):
        shift = (made.page_shift, 21, 30)[n % 3]
        base = start + n * GIB * rng.randrange(1, 9)
        for _ in range(1 if shift == 30 else 12):
            address = base + (rng.randrange(GIB) >> shift << shift)
            physical = rng.randrange(1 << 46) >> shift << shift
            if address in found or any(a >> 30 == address >> 30 and found[a] != 1 << shift
                                       for a in found):  # fmt: skip
                continue
            page = model.Page(shift, rng.random() < 0.5, rng.random() < 0.5, user)
            made.map(address, physical, page)
            found[address] = 1 << shift
    return found


@pytest.mark.parametrize("page_shift", [12, 16])
@pytest.mark.parametrize("machine", ["powernv9", "powernv10"])
def test_radix_trees_translate_as_qemus_mmu_does(page_shift, machine, peer, folder) -> None:
    rng, ram, pid = random.Random(page_shift), guest(), 7
    kernel, process = (
        model.LinuxTables(
            ram, ram.allocate, mmu="radix", page_shift=page_shift, release=(6, 1), order="big"
        )
        for _ in range(2)
    )
    kernel.map(PAGE_OFFSET, 0, model.Page(30, execute=True))  # the program, and the process table
    pages = {
        PAGE_OFFSET: GIB,
        **fill(rng, kernel, 0xC008000000000000, user=False),
        **fill(rng, process, 1 << 40, user=True),
    }
    table, partitions = ram.allocate(65536), ram.allocate(65536)
    entries = [model.process_table_entry(made.root, 13) for made in (kernel, process)]
    ram.write(table, entries[0])
    ram.write(table + 16 * pid, entries[1])
    # Translation of the process table's own address is by the partition's tree: Linux's is the
    # kernel's, which has it in the linear map.
    host = 1 << 63 | int.from_bytes(entries[0][:8], "big")
    ram.write(partitions, host.to_bytes(8, "big") + (table | 4).to_bytes(8, "big"))
    registers = {
        qemu.LPCR: qemu.HOST_RADIX | qemu.PROCESS_TABLE, qemu.PTCR: partitions | 4, qemu.PIDR: pid,
    }  # fmt: skip
    ram.write(qemu.CODE, qemu.program(registers, []))
    addresses = [a for address, size in pages.items() for a in near(rng, address, size)]
    addresses += [0, PAGE_OFFSET + (1 << 51), PAGE_OFFSET + (1 << 52), 1 << 52, (1 << 64) - 8]
    addresses += [rng.randrange(1 << 52) | top for top in (0, PAGE_OFFSET) for _ in range(50)]
    said = asked(peer, folder, machine, ram, addresses)
    assert Counter(pages.values()).keys() == {1 << page_shift, 2 * MIB, GIB}
    assert sum(physical is None for physical in said.values()) > 100
    memory = ram.memory()
    for number, top in ((0, QUADRANT_3), (pid, 0)):
        tree = process_tree(memory, table, number)
        space = radix_space(Resident(memory), tree, name="qemu", top=top)
        mine = {a: physical for a, physical in said.items() if a >> 62 == top >> 62}
        assert sum(physical is not None for physical in mine.values()) > 100
        assert_same(space, mine)
        for address, size in pages.items():
            if address in mine:
                assert space.translate(address).page_size == size


# --- the hashed page table ------------------------------------------------------------------------

SCHEME = next(scheme for scheme in SCHEMES if scheme.name == "since 5.2, 64K pages")
LLP = {12: 0x000, 16: 0x110, 24: 0x100, 34: 0x120}  # L and LP of an SLB entry


@dataclass(frozen=True)
class Part:
    """A segment: where it begins, its size, its base page size, and what its pages may be."""

    address: int
    shift: int
    base: int
    actual: tuple[int, ...]

    @property
    def vsid(self) -> int:
        return model.kernel_vsid((6, 1), 16, self.address, self.shift)

    def slb(self, index: int) -> tuple[int, int]:
        """The doublewords that slbmte takes."""
        large = self.shift == 40
        word = self.vsid << (24 if large else 12) | (1 << 62 if large else 0) | LLP[self.base]
        return self.address | 0x08000000 | index, word


PARTS = [Part(PAGE_OFFSET, 40, 24, (24,))] + [
    Part(0xC008000000000000 + (n << 40), shift, base, actual)
    for n, (shift, base, actual) in enumerate(
        [
            (shift, base, actual)
            for shift in (28, 40)
            for base, actual in ((12, (12, 16, 24)), (16, (16, 24)), (24, (24,)))
        ]
        + [(40, 34, (34,))]
    )
]


def enter(rng: random.Random, made: model.HashedTable) -> dict[int, model.HashedPage]:
    """Enter pages of every size; those of each segment do not overlap. Address -> page."""
    linear = model.HashedPage(PARTS[0].vsid, 40, 0, 24, 24, 0)
    made.enter(linear)
    found = {PAGE_OFFSET: linear}
    for part in PARTS[1:]:
        slots: dict[int, int] = {}  # largest page of the segment -> size of those that are in it
        largest = max(part.actual)
        for _ in range(150):
            offset = rng.randrange(1 << min(part.shift, 36)) >> part.base << part.base
            actual = slots.setdefault(offset >> largest, rng.choice(part.actual))
            real = rng.randrange(1 << 43) >> actual << actual
            address = part.address + offset
            if address in found or (
                actual > part.base and slots.get(offset >> actual | 1 << 63) is not None
            ):
                continue
            slots[offset >> actual | 1 << 63] = actual
            page = model.HashedPage(
                part.vsid, part.shift, offset, part.base, actual, real,
                pp=rng.choice([0, 2, 3]), execute=rng.random() < 0.5,
            )  # fmt: skip
            if made.enter(page, secondary=rng.random() < 0.3) is not None:
                found[address] = page
    return found


@pytest.mark.parametrize(
    ("machine", "v3"), [("powernv8", False), ("powernv9", True)], ids=["ISA 2.07", "ISA 3.0"]
)
def test_a_hashed_page_table_translates_as_qemus_mmu_does(machine, v3, peer, folder) -> None:
    rng, ram, shift = random.Random(1), guest(), 18
    made = model.HashedTable(shift, v3=v3)
    pages = enter(rng, made)
    start = ram.allocate(1 << shift)
    ram.write(start, bytes(made.data))
    slb = [part.slb(n) for n, part in enumerate(PARTS)]
    where = start | shift - 18
    if v3:
        partitions = ram.allocate(65536)
        ram.write(partitions, where.to_bytes(8, "big") + bytes(8))
        registers = {qemu.LPCR: 0, qemu.PTCR: partitions | 4}
    else:
        registers = {qemu.LPCR: 0, qemu.SDR1: where}
    ram.write(qemu.CODE, qemu.program(registers, slb))
    # A large page has an entry for that base page only with which it was entered.
    addresses = [a for at, page in pages.items() for a in near(rng, at, 1 << page.base_shift)]
    addresses += [part.address + rng.randrange(1 << part.shift) for part in PARTS for _ in range(9)]
    addresses += [0, PAGE_OFFSET + (1 << 40), 0xC008100000000000, (1 << 64) - 8]
    said = asked(peer, folder, machine, ram, addresses)
    memory = ram.memory()
    table = HashTable(memory, start, 1 << shift, hpte.POWER7_PAGE_SIZES, v3=v3)
    segments = [slb_segment(esid, vsid) for esid, vsid in slb]
    by_slb = HashSpace("qemu", memory, table, SCHEME, segments=[s for s in segments if s])
    assert_same(by_slb, said)
    assert_same(HashSpace("qemu", memory, table, SCHEME), said)
    assert_all_kinds(by_slb, pages, said)


def assert_all_kinds(space, pages, said) -> None:
    """Nothing that is promised was left out."""
    count: Counter[object] = Counter()
    for address, page in pages.items():
        found = space.translate(address)
        assert found.page_size == 1 << page.actual_shift
        assert said[address] == page.real | address & (1 << page.actual_shift) - 1
        count[page.segment_shift, page.base_shift, page.actual_shift] += 1
        count[found.steps[0].level.split(", ")[1]] += 1
    kinds = {(part.shift, part.base, actual) for part in PARTS for actual in part.actual}
    assert set(count) == kinds | {"primary group", "secondary group"}
    assert min(count["primary group"], count["secondary group"]) > 150
    assert sum(physical is None for physical in said.values()) > 500
    assert int(space.translate_many([0]).faults[0]) == tables.OUTSIDE
