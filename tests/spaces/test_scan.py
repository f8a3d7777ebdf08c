"""Scan: what a search byte by byte finds, across all borders, and nothing more, in every mode."""

from __future__ import annotations

import random
import re
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phypan
from phypan.errors import NotInDump
from phypan.spaces import scan
from phypan.spaces.space import MappedRange, Space

MODES = ("numba", "numpy", "plain")


@contextmanager
def chosen(mode: str, block: int):
    """The mode of the kernels, and the size of a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHYPAN_KERNELS", mode)
        patch.setattr(scan, "_BLOCK", block)
        yield


class Mapped(Space):
    """Effective addresses that are mapped as a list says: (first, physical, size)."""

    def __init__(self, memory: phypan.Memory, ranges: list[tuple[int, int, int]]) -> None:
        super().__init__(memory)
        self.ranges = ranges

    def mappings(self, *, alike: bool = False):
        for first, physical, size in self.ranges:
            yield MappedRange(first, size, physical, 64)


class Sparse(phypan.BytesStore):
    """A store that knows where its zeros are, 16 bytes at a time."""

    def data(self, offset: int, size: int):
        for at in range(offset, offset + size, 16):
            part = bytes(self.view(at, min(16, offset + size - at)))
            if any(part):
                yield at, len(part)


letters = st.sampled_from([b"ab", b"a", b"\0" * 40, b"aba", b"x", b"\0", b"hello world "])


@st.composite
def mapped(draw):
    """(a space, its bytes by address): pages of 64 bytes in any order, some of them not there."""
    pages = draw(st.integers(1, 8))
    filler = draw(st.lists(letters, min_size=1, max_size=60).map(b"".join))
    data = (filler * (64 * pages // len(filler) + 1))[: 64 * pages]
    store = draw(st.sampled_from([phypan.BytesStore, Sparse]))(data)
    order = draw(st.permutations(range(pages)))
    holes = draw(st.sets(st.sampled_from(range(pages)), max_size=1))
    extents = [phypan.Extent(64 * n, 64, store, 64 * n) for n in range(pages) if n not in holes]
    base = draw(st.sampled_from([0, 0xC008000000000000, (1 << 64) - 64 * pages]))
    ranges = [(base + 64 * n, 64 * page, 64) for n, page in enumerate(order)]
    there = {
        base + 64 * n + at: data[64 * page + at]
        for n, page in enumerate(order) if page not in holes for at in range(64)
    }  # fmt: skip
    return Mapped(phypan.Memory(extents), ranges), there


def stands(there: dict[int, int], address: int, data: bytes) -> bool:
    return all(there.get(address + n) == byte for n, byte in enumerate(data))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [16, 8 << 20])
@given(
    case=mapped(),
    needle=st.sampled_from([b"ab", b"aba", b"\0a", b"a\0", b"\0\0", b"bx", b"\0" * 20]),
)
@settings(max_examples=60)
def test_patterns(mode, block, case, needle) -> None:
    space, there = case
    with chosen(mode, block):
        found = list(scan.Scan(space, threads=2).pattern(needle))
    assert found == [at for at in sorted(there) if stands(there, at, needle)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("order", ["big", "little"])
@given(case=mapped(), size=st.sampled_from([4, 8]), low=st.integers(0, 3))
@settings(max_examples=40)
def test_numbers(mode, order, case, size, low) -> None:
    space, there = case
    words = {}
    for at in sorted(there):
        if at % size == 0:
            data = [there.get(at + n) for n in range(size)]
            if None not in data:
                words[at] = int.from_bytes(bytes(data), order)
    most = max(words.values(), default=0)
    for least, last in ((low, most // 2), (most, most), (0, 0)):
        expected = [(at, value) for at, value in words.items() if least <= value <= last]
        with chosen(mode, 64):
            assert list(scan.Scan(space).numbers(size, least, last, order)) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [16, 8 << 20])
@given(case=mapped(), least=st.integers(1, 6))
@settings(max_examples=40)
def test_texts(mode, block, case, least) -> None:
    space, there = case
    expected, run, last = [], b"", 0
    for at in [*sorted(there), None]:
        byte = there.get(at)
        if run and (at is None or at != last + 1 or not 0x20 <= byte <= 0x7E):
            if len(run) >= least:
                expected.append((last + 1 - len(run), len(run), run))
            run = b""
        if at is not None and 0x20 <= byte <= 0x7E:
            run, last = run + bytes([byte]), at
    with chosen(mode, block):
        texts = scan.Scan(space).texts(least, "ascii")
        found = [(at, size, bytes(data)) for at, size, data in texts]
    assert found == expected


@given(case=mapped())
@settings(max_examples=40)
def test_regular_expressions(case) -> None:
    space, there = case
    with chosen("plain", 16):
        found = list(scan.Scan(space).regex(re.compile(rb"b+|hello")))
    for at, data in found:
        assert stands(there, at, data)
    expected = {at for at in there if there[at] == ord("b") and there.get(at - 1) != ord("b")}
    assert {at for at, data in found if data[:1] == b"b"} == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("encoding", ["utf-16le", "utf-16be"])
def test_text_of_two_bytes_a_character(monkeypatch, mode, encoding) -> None:
    monkeypatch.setenv("PHYPAN_KERNELS", mode)
    monkeypatch.setattr(scan, "_BLOCK", 64)
    data = b"\x81\x81" + "at an even place ".encode(encoding) * 5 + b"\x81" * 3
    data += "and at an odd one".encode(encoding) + b"\x81" * 4
    memory = phypan.Memory([phypan.Extent(0, len(data), phypan.BytesStore(data), 0)])
    found = scan.Scan(Mapped(memory, [(0, 0, len(data))])).texts(5, encoding)
    words = [(at, size, bytes(part).decode(encoding)) for at, size, part in found]
    assert words == [(2, 170, "at an even place " * 5), (175, 34, "and at an odd one")]


def test_what_is_damaged_is_left_out_and_nothing_else(monkeypatch) -> None:
    class Damaged(phypan.BytesStore):
        def view(self, offset: int, size: int) -> memoryview:
            if offset < 0x13000 and offset + size > 0x12000:
                raise NotInDump(offset, "damaged", "a page that cannot be unpacked")
            return super().view(offset, size)

    data = bytearray(b"-" * 0x40000)
    places = [0, 0x11FFA, 0x11FFB, 0x12010, 0x13000, 0x3FFFA]
    for at in (0, 0x11FFA, 0x12010, 0x13000, 0x3FFFA):
        data[at : at + 6] = b"needle"
    memory = phypan.Memory([phypan.Extent(0, len(data), Damaged(bytes(data)), 0)])
    space = Mapped(memory, [(0, 0, len(data))])
    found = list(scan.Scan(space).pattern(b"needle"))
    assert found == [0, 0x11FFA, 0x13000, 0x3FFFA]
    assert set(found) < {*places}


def test_a_search_may_be_left_early() -> None:
    chance = random.Random(1)
    data = bytes(chance.randrange(2) for _ in range(1 << 20)) * 32
    memory = phypan.Memory([phypan.Extent(0, len(data), phypan.BytesStore(data), 0)])
    found = scan.Scan(Mapped(memory, [(0, 0, len(data))]), threads=2).pattern(b"\1")
    first = [next(found) for _ in range(3)]
    found.close()
    assert first == [n for n in range(100) if data[n] == 1][:3]
