"""verify finds every damage, nothing damaged is taken for right, repair leaves the rest."""

from __future__ import annotations

import random

import pytest

import phypan
from phypan import PageState, PhypanError, Problem
from phypan.formats import kdump
from phypan.pages.kdump_set import KdumpSet
from tests.kdump_files import LZO, RAW, ZLIB, ZSTD, KdumpFile, flattened
from tests.made_dumps import content, made, same_memory

SIZE = 4096
KINDS = [None if n % 11 == 5 else n % 4 for n in range(60)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same dump in each compression, as a file and as a stream."""
    folder = tmp_path_factory.mktemp("good")
    found = {}
    for compress in ("zlib", "lzo", "snappy", "zstd", "none"):
        phypan.convert(made(KINDS), folder / compress, format="kdump", compress=compress)
        found[compress] = (folder / compress).read_bytes()
    phypan.convert(made(KINDS), folder / "flat", format="kdump", flattened=True)
    found["flattened"] = (folder / "flat").read_bytes()
    return found


def check_pages(dump: phypan.Dump) -> int:
    """How many pages are as they were; none may be read that is not."""
    right = 0
    for number, kind in enumerate(KINDS):
        try:
            page = dump.memory.read(number * SIZE, SIZE)
        except PhypanError:
            continue
        assert kind is not None, "there is no such page"
        assert page == content(kind, number, SIZE), f"page {number} is wrong"
        right += 1
    return right


@pytest.mark.parametrize("name", ["zlib", "lzo", "snappy", "zstd", "none", "flattened"])
def test_nothing_is_found_where_nothing_is_wrong(tmp_path, files, name: str) -> None:
    (tmp_path / "good").write_bytes(files[name])
    with phypan.open(tmp_path / "good") as dump:
        assert list(phypan.verify(dump)) == []
        assert check_pages(dump) == sum(kind is not None for kind in KINDS)


@pytest.mark.parametrize("name", ["zlib", "lzo", "snappy", "zstd", "none", "flattened"])
def test_every_flipped_bit_is_found_and_no_wrong_byte_is_read(tmp_path, files, name) -> None:
    good, path = files[name], tmp_path / "damaged"
    draw = random.Random(name)
    # headers and their fields, descriptors, data: of each kind of bytes some
    head = _descriptors_at(files["zlib"])
    places = [draw.randrange(0, 600) for _ in range(12)]
    places += [SIZE + draw.randrange(0, 400) for _ in range(12)]
    places += [draw.randrange(0, head) for _ in range(16)]
    places += [head + draw.randrange(0, 24 * 54) for _ in range(12)]
    places += [draw.randrange(0, len(good)) for _ in range(18)]
    for place in places:
        damaged, bit = bytearray(good), draw.randrange(8)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            dump = phypan.open(path)
        except PhypanError:
            continue  # found as well
        with dump:
            assert list(phypan.verify(dump)), f"bit {bit} of byte {place:#x} was not found"
            check_pages(dump)


def test_of_two_thousand_flipped_bits_each_is_found_and_no_wrong_byte_is_read(
    tmp_path_factory, files
) -> None:
    """400 in each compression, anywhere in the file."""
    path = tmp_path_factory.mktemp("flips") / "damaged"
    draw, refused, lost = random.Random(2000), 0, 0
    whole = sum(kind is not None for kind in KINDS)
    for name in ("zlib", "lzo", "snappy", "zstd", "none"):
        good = files[name]
        for _ in range(400):
            place, bit = draw.randrange(len(good)), draw.randrange(8)
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
            try:
                dump = phypan.open(path)
            except PhypanError:
                refused += 1
                continue
            with dump:
                assert list(phypan.verify(dump)), f"{name}: bit {bit} of byte {place:#x}"
                lost += check_pages(dump) < whole
    assert refused < 200, "most of a file is no header"
    assert lost > 500, "most of a file is pages"


@pytest.mark.parametrize("name", ["zlib", "none", "flattened"])
@pytest.mark.parametrize("order", ["little", "big"])
def test_pages_that_are_summed_together_are_those_found_one_by_one(
    tmp_path, monkeypatch, name, order
) -> None:
    pytest.importorskip("numba")
    path, draw, different = tmp_path / "damaged", random.Random(7), 0
    words = {"flattened": True} if name == "flattened" else {"compress": name}
    phypan.convert(made(KINDS, order=order), path, format="kdump", force=True, **words)
    good = path.read_bytes()
    for _ in range(60):
        data = bytearray(good)
        for place in draw.sample(range(8192, len(good)), draw.randrange(4)):
            data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        found = {}
        for how in ("numba", "plain"):
            monkeypatch.setenv("PHYPAN_KERNELS", how)
            with phypan.open(path) as dump:
                found[how] = list(phypan.verify(dump))
            phypan.repair([path], tmp_path / how, force=True)
        assert found["numba"] == found["plain"]
        assert (tmp_path / "numba").read_bytes() == (tmp_path / "plain").read_bytes()
        different += bool(found["plain"])
    assert 20 < different < 60


def test_sure_pages_are_not_looked_at_one_by_one(tmp_path, files, monkeypatch) -> None:
    pytest.importorskip("numba")
    asked, check = [], KdumpSet.check
    monkeypatch.setattr(
        KdumpSet, "check", lambda self, number: (asked.append(number), check(self, number))
    )
    damaged = bytearray(files["zstd"])
    damaged[-100] ^= 1
    for data, most in ((files["zstd"], 1), (damaged, 3)):  # zeros, once, and what is damaged
        (tmp_path / "file").write_bytes(data)
        asked.clear()
        with phypan.open(tmp_path / "file") as dump:
            list(phypan.verify(dump))
        assert len(asked) <= most


def _descriptors_at(data: bytes) -> int:
    return kdump.read(lambda at, size: data[at : at + size], len(data)).descriptors_at


@pytest.mark.parametrize("name", ["zstd", "none", "flattened"])
def test_every_truncation_is_found_and_no_wrong_byte_is_read(tmp_path, files, name) -> None:
    good, path = files[name], tmp_path / "cut"
    for cut in [*range(1, len(good), len(good) // 60), len(good) - 1]:
        path.write_bytes(good[:cut])
        try:
            dump = phypan.open(path)
        except PhypanError:
            continue
        with dump:
            assert list(phypan.verify(dump))
            check_pages(dump)


def test_damage_is_listed_with_its_place(tmp_path, files) -> None:
    data = bytearray(files["none"])
    head = kdump.read(lambda at, size: bytes(data[at : at + size]), len(data))
    numbers = [number for number, kind in enumerate(KINDS) if kind is not None]
    zeros = {number for number, kind in enumerate(KINDS) if kind == 0}
    for index in (1, 2, 7):
        offset = int.from_bytes(data[head.descriptors_at + 24 * index :][:8], "little")
        data[offset] ^= 0xFF
    (tmp_path / "damaged").write_bytes(data)
    with phypan.open(tmp_path / "damaged") as dump:
        found = list(phypan.verify(dump))
    assert (numbers[1], numbers[2], numbers[7]) == (1, 2, 8)
    assert {row.what for row in found} == {"its checksum is wrong"}
    told = {row.address // SIZE + n for row in found for n in range(row.size // SIZE)}
    assert told == {1, 2} | zeros, "8 is in zeros, which all share one stored page"
    assert (found[0].address, found[0].size) == (0, 3 * SIZE), "neighbours are one line"


def test_files_without_checksums_are_checked_by_decompressing(tmp_path) -> None:
    pages = {n: (content(1, n, SIZE), (ZLIB, LZO, ZSTD, RAW)[n % 4]) for n in range(12)}
    file = KdumpFile(pages, page_size=SIZE, max_mapnr=32)
    (tmp_path / "good").write_bytes(file.write())
    with phypan.open(tmp_path / "good") as dump:
        assert [row.where for row in phypan.verify(dump)] == ["notes"], "it has no VMCOREINFO"
    file.pages = {**pages, 4: (b"cut", ZLIB), 9: (b"cut", LZO)}
    (tmp_path / "bad").write_bytes(file.write())
    with phypan.open(tmp_path / "bad") as dump:
        rows = [row for row in phypan.verify(dump) if row.address is not None]
    assert [row.address for row in rows] == [4 * SIZE, 9 * SIZE]


def test_an_elf_core_is_checked_for_what_leaves_the_file(tmp_path) -> None:
    phypan.convert(made([1, 2, None, 2]), tmp_path / "core")
    data = (tmp_path / "core").read_bytes()
    (tmp_path / "cut").write_bytes(data[:-100])
    with phypan.open(tmp_path / "core") as dump:
        assert list(phypan.verify(dump)) == []
    with phypan.open(tmp_path / "cut") as dump:
        rows = list(phypan.verify(dump))
    assert [(row.address, row.size) for row in rows if row.address] == [(4 * SIZE - 100, 100)]
    done = phypan.repair([tmp_path / "cut"], tmp_path / "repaired")
    with phypan.open(done) as dump:
        assert dump.format == "elf"
        assert dump.incomplete
        assert dump.memory.size == 3 * SIZE - 100


@pytest.mark.parametrize("name", ["zlib", "none", "flattened"])
def test_what_is_left_is_repaired(tmp_path, files, name: str) -> None:
    draw, data = random.Random(1), bytearray(files[name])
    head = 8192 + _descriptors_at(files["zlib"])
    for place in draw.sample(range(head, len(data) - 4096), 5):
        data[place] ^= 1 << draw.randrange(8)
    (tmp_path / "damaged").write_bytes(data[: len(data) - 1000])
    with phypan.open(tmp_path / "damaged") as dump:
        right, known = check_pages(dump), dump.problems
    phypan.repair([tmp_path / "damaged"], tmp_path / "repaired")
    with phypan.open(tmp_path / "repaired") as dump:
        assert check_pages(dump) == right
        assert dump.incomplete
        assert dump.problems == known, "it tells what it was made of"
        rows = list(phypan.verify(dump))
        assert rows, "what is lost stays lost"
        assert all(row.where == "memory" for row in rows), "and nothing else is wrong"
        holes = [hole for hole in dump.memory.holes() if hole.state is PageState.DAMAGED]
        lost = sum(kind is not None for kind in KINDS) - right
        assert sum(hole.size for hole in holes) == lost * SIZE


def test_a_split_set_is_joined_and_repaired(tmp_path) -> None:
    dump = made(KINDS)
    done = phypan.convert(dump, tmp_path / "part", format="kdump", compress="lzo", split=3)
    assert [path.name for path in done.paths] == ["part.1", "part.2", "part.3"]
    joined = phypan.join([*reversed(done.paths)], tmp_path / "joined")
    with phypan.open(joined) as whole:
        same_memory(dump.memory, whole.memory)
        assert list(phypan.verify(whole)) == []
    phypan.repair(done.paths[1:], tmp_path / "repaired")
    with phypan.open(tmp_path / "repaired") as rest:
        assert rest.incomplete
        assert rest.memory.at(0).why == "it is in a file of the split set that was not given"


def test_a_dump_whose_head_is_gone_cannot_be_repaired(tmp_path, files) -> None:
    for data in (b"", files["zlib"][:5000], flattened([(0, files["zlib"][:5000])])):
        (tmp_path / "gone").write_bytes(data)
        with pytest.raises(PhypanError):
            phypan.repair([tmp_path / "gone"], tmp_path / "repaired")
        assert not (tmp_path / "repaired").exists()


def test_what_the_source_had_wrong_is_no_fault_of_the_file(tmp_path) -> None:
    dump = made(KINDS)
    dump.problems.append(Problem("two notations", "release_region", "the property was followed"))
    done = phypan.convert(dump, tmp_path / "vmcore")
    with phypan.open(done) as again:
        assert again.problems == dump.problems, "it is told"
        assert list(phypan.verify(again)) == [], "and is not damage"
