"""The log out of a dump: which of its forms it has, and what is left of it when it is damaged."""

from __future__ import annotations

import random
import time

import pytest

import phypan
from phypan.errors import NotInDump, PhypanError, Unsupported
from phypan.formats.vmcoreinfo import Vmcoreinfo
from phypan.linux import log
from tests.formats.test_printk import INFO, record

BASE = 0xC000000000000000
SIZE = 1 << 16
VARIABLES = {"log_buf": 0x100, "log_buf_len": 0x110, "log_first_idx": 0x120, "log_next_idx": 0x130,
             "log_end": 0x140, "logged_chars": 0x150}  # fmt: skip
RING = 0x1000


class Memory:
    """The kernel's memory from BASE on; as a space, and as what reads some of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.space = data, self

    def read(self, address: int, size: int) -> bytes:
        if not BASE <= address <= address + size <= BASE + len(self.data):
            raise NotInDump(address & ~BASE, "absent", "nothing is there")
        return bytes(self.data[address - BASE : address - BASE + size])

    def read_some(self, address: int, size: int) -> bytes:
        return bytes(self.data[address - BASE :][:size]) if address >= BASE else b""


class Crashed(phypan.Dump):
    """A dump that is a log, and symbols of it in VMCOREINFO."""

    def __init__(self, ring: bytes, info: str, order: str = "little", **numbers: int) -> None:
        text = "".join(f"SYMBOL({name})={BASE + at:x}\n" for name, at in VARIABLES.items())
        super().__init__("made", phypan.Memory([]), byte_order=order)  # type: ignore[arg-type]
        self.vmcoreinfo = Vmcoreinfo((text + info).encode())
        data = bytearray(SIZE)
        data[RING : RING + len(ring)] = ring
        for name, value in {"log_buf": BASE + RING, "log_buf_len": len(ring), **numbers}.items():
            size = 8 if name == "log_buf" else 4
            at = VARIABLES[name]
            data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
        self.__dict__["kernel"] = Memory(data)
        self.kernel.symbols = phypan.linux.symbols.Symbols()  # type: ignore[misc]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("name", ["printk_log", "log"])
def test_records_of_3_5_to_5_9(order, name) -> None:
    ring = record(order, b"one", time=5) + record(order, b"two", time=6) + bytes(64)
    dump = Crashed(ring, INFO.format(name=name), order, log_next_idx=len(ring) - 64)
    assert [(r.time, r.text) for r in log.records(dump)] == [(5, "one"), (6, "two")]
    assert dump.problems == []


@pytest.mark.parametrize("order", ["little", "big"])
def test_characters_until_3_4(order) -> None:
    ring = b"<6>one\n<4>two\n"
    dump = Crashed(ring, "", order, log_end=len(ring), logged_chars=len(ring))
    assert [(r.level, r.text) for r in log.records(dump)] == [(6, "one"), (4, "two")]


def test_what_cannot_be_read_is_carved() -> None:
    ring = bytes(100) + b"Kernel panic - not syncing: x\0\0<4>and after"
    dump = Crashed(ring, INFO.format(name="printk_log"), log_first_idx=96, log_next_idx=64)
    assert [r.text for r in log.records(dump)] == ["Kernel panic - not syncing: x", "and after"]
    assert "no message can be read" in [problem.what for problem in dump.problems]


@pytest.mark.parametrize("name", ["log_buf", "log_buf_len", "log_first_idx", "log_next_idx"])
@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_wild_variables_are_problems(name, value) -> None:
    ring = record("little", b"one") * 3 + bytes(16)
    numbers = {"log_next_idx": 72, name: value}
    dump = Crashed(ring, INFO.format(name="printk_log"), **numbers)
    found = log.records(dump)
    assert len(found) <= 4
    assert len(found) >= 2 or dump.problems or (name, value) == ("log_next_idx", 0)


def test_where_nothing_tells_of_it() -> None:
    dump = Crashed(b"", "")
    dump.vmcoreinfo = None
    with pytest.raises(Unsupported, match="nothing tells where"):
        log.records(dump)


@pytest.mark.parametrize("name", ["le-hash8", "be-radix9"])
def test_a_real_ring_with_random_damage(name, real_dump) -> None:
    """Of each damaged byte at most some messages are lost, and that is said."""
    chance = random.Random(name)
    with phypan.open(real_dump(name).path) as dump:
        whole = log.records(dump)
        rings = log._rings(dump, dump.vmcoreinfo)
        areas = [(rings.descs, 24 * rings.count), (rings.infos, 88 * rings.count),
                 (rings.text, rings.text_size)]  # fmt: skip
        places = [start + chance.randrange(size) for start, size in areas for _ in range(150)]
        places += [dump.vmcoreinfo.symbol("prb")]
        real = dump.kernel.space
        for part in (places[:30], places[:200], places):
            damaged = {place: chance.randrange(256) for place in part}
            dump.kernel.__dict__["space"] = Damaged(real, damaged)
            dump.problems.clear()
            start = time.process_time()
            found = log.records(dump)
            assert time.process_time() - start < 5
            assert len(found) <= max(len(whole), rings.text_size // 6)
            assert found or dump.problems


class Damaged:
    """A space in which some bytes are others."""

    def __init__(self, space, bytes_at: dict[int, int]) -> None:
        self.space, self.bytes_at, self.memory = space, bytes_at, space.memory

    def read(self, address: int, size: int) -> bytes:
        data = bytearray(self.space.read(address, size))
        for place, value in self.bytes_at.items():
            if address <= place < address + size:
                data[place - address] = value
        return bytes(data)


def test_missing_memory_loses_only_what_was_in_it(real_dump) -> None:
    with phypan.open(real_dump("le-radix10").path) as dump:
        whole = log.records(dump)
        rings, space = log._rings(dump, dump.vmcoreinfo), dump.kernel.space
        dump.kernel.__dict__["space"] = Cut(space, rings.text + 4096, 1 << 20)
        found = log.records(dump)
        assert 10 < len(found) < len(whole)
        assert found == whole[: len(found)]
        assert any("cannot be read" in problem.what for problem in dump.problems)
        dump.kernel.__dict__["space"] = Cut(space, rings.descs, 24 * rings.count)
        dump.problems.clear()
        assert log.records(dump) != []
        assert any("looks like text" in problem.meaning for problem in dump.problems)


class Cut:
    """A space without some bytes from an address on."""

    def __init__(self, space, start: int, size: int) -> None:
        self.space, self.start, self.end, self.memory = space, start, start + size, space.memory

    def read(self, address: int, size: int) -> bytes:
        if address < self.end and self.start < address + size:
            raise PhypanError("it was cut out")
        return self.space.read(address, size)
