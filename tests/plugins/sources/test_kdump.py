"""KDUMP files that phypan did not write: what libkdumpfile's tests describe, and worse.

The descriptions are those of libkdumpfile's tests/diskdump-*: empty, basic (each compression),
excluded, split, split-flat, split-mixed, flat-raw, multiread; here for ppc64.
"""

from __future__ import annotations

import random
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import phypan
from phypan import BadRecord, Hole, InputError, NotInDump, PageState, PhypanError, Unsupported
from tests.kdump_files import (
    EXCLUDED,
    LZO,
    MISSING,
    RAW,
    SNAPPY,
    ZLIB,
    ZSTD,
    KdumpFile,
    flattened,
    note,
)

SIZE = 65536
COMPRESSIONS = {"raw": RAW, "zlib": ZLIB, "lzo": LZO, "snappy": SNAPPY, "zstd": ZSTD}
ORDERS = ("big", "little")


def page(value: int, size: int = SIZE) -> bytes:
    """A page like libkdumpfile's: one value all over."""
    return bytes([value]) * size


def basic(size: int = SIZE) -> bytes:
    """A page with some of everything."""
    counting, noise = bytes(range(256)), random.Random(1).randbytes(size // 4)
    return (counting * 3 + bytes(300) + b"\xff" * 300 + noise).ljust(size, b"w")


def opened(folder: Path, *files: KdumpFile | bytes, **options) -> phypan.Dump:
    paths = []
    for number, file in enumerate(files):
        paths.append(folder / f"dump.{number}")
        paths[-1].write_bytes(file if isinstance(file, bytes) else file.write())
    return phypan.open(*paths, **options)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("size", [4096, 65536, 262144])
def test_basic(tmp_path, order: str, how: str, size: int) -> None:
    content = basic(size)
    file = KdumpFile({0: (content, COMPRESSIONS[how])}, order, size)
    with opened(tmp_path, file) as dump:
        assert (dump.byte_order, dump.page_size, dump.format) == (order, size, "kdump")
        assert dump.memory.read(0, size) == content
        assert dump.memory.read(700, 300) == content[700:1000]
        assert dump.crash_time == 1453471962
        assert [hole.state for hole in dump.memory.holes()] == [PageState.ABSENT]
        assert next(iter(dump.memory.extents)).size == size


def test_empty(tmp_path) -> None:
    with opened(tmp_path, KdumpFile({}, fields={"phys_base": 0x3C0000}, max_mapnr=0)) as dump:
        assert dump.memory.size == 0
        assert not dump.incomplete


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
def test_every_header_version(tmp_path, version: int) -> None:
    text = b"OSRELEASE=6.4.3-1-default\nPAGESIZE=65536\nCRASHTIME=1689103980\n"
    notes = note(b"VMCOREINFO", 0, text)
    file = KdumpFile({0: (basic(), ZLIB)}, version=version, notes=notes, vmcoreinfo=text)
    with opened(tmp_path, file) as dump:
        assert dump.memory.read(0, SIZE) == basic()
        release = dump.vmcoreinfo.release if dump.vmcoreinfo else None
        assert release == ("6.4.3-1-default" if version >= 3 else None)
        assert dump.crash_time == (1689103980 if version >= 3 else 1453471962)


def test_excluded(tmp_path) -> None:
    pages = {0: (page(0x55), RAW), 1: (EXCLUDED, RAW), 2: (page(0xAA), RAW)}
    with opened(tmp_path, KdumpFile(pages, dump_level=31)) as dump:
        assert dump.memory.read(0, SIZE) == page(0x55)
        assert dump.memory.read(2 * SIZE, SIZE) == page(0xAA)
        with pytest.raises(NotInDump) as caught:
            dump.memory.read(0, 3 * SIZE)
        assert caught.value.address == SIZE
        assert caught.value.state == "excluded"
        assert "dump level 31" in caught.value.why
        assert dump.memory.at(3 * SIZE).state is PageState.ABSENT
        assert dump.dump_level == 31


@pytest.mark.parametrize("one_bitmap", [False, True])
def test_a_single_bitmap_says_which_pages_are_stored(tmp_path, one_bitmap: bool) -> None:
    pages = {0: (page(1), RAW), 1: (EXCLUDED, RAW), 2: (page(2), RAW)}
    with opened(tmp_path, KdumpFile(pages, one_bitmap=one_bitmap)) as dump:
        assert dump.memory.read(2 * SIZE, 1) == b"\2"
        state = dump.memory.at(SIZE).state
        assert state is (PageState.ABSENT if one_bitmap else PageState.EXCLUDED)


SPLIT = {n: (page(value), RAW) for n, value in enumerate([0xFF, 0x10, 0x20, 0x30, 0x40, 0xDE])}
PARTS = [(1, 2), (2, 3), (3, 6)]


@pytest.mark.parametrize("flat", ["none", "all", "mixed"])
def test_split(tmp_path, flat: str) -> None:
    files = []
    for number, part in enumerate(PARTS):
        data = KdumpFile(SPLIT, split=part).write()
        envelope = flat == "all" or (flat == "mixed" and number == 1)
        files.append(flattened([(0, data)]) if envelope else data)
    random.Random(flat).shuffle(files)
    with opened(tmp_path, *files) as dump:
        for number in range(1, 6):
            assert dump.memory.read(number * SIZE, SIZE) == SPLIT[number][0]
        hole = dump.memory.at(0)
        assert isinstance(hole, Hole)
        assert hole.state is PageState.DAMAGED, "page 0 is in a file that was never given"


def test_one_file_of_a_split_set_holds_its_own_pages(tmp_path) -> None:
    for number, (first, last) in enumerate(PARTS):
        (tmp_path / str(number)).mkdir()
        with opened(tmp_path / str(number), KdumpFile(SPLIT, split=(first, last))) as dump:
            assert dump.incomplete
            for frame in range(6):
                if first <= frame < last:
                    assert dump.memory.read(frame * SIZE + 8, 8) == SPLIT[frame][0][:8]
                else:
                    with pytest.raises(NotInDump, match="not given"):
                        dump.memory.read(frame * SIZE, 8)


def test_files_that_make_no_set_are_refused(tmp_path) -> None:
    one = KdumpFile(SPLIT, split=(0, 3))
    others = [
        (one, "overlap"),
        (KdumpFile(SPLIT), "whole dump"),
        (KdumpFile(SPLIT, split=(3, 6), order="little"), "another dump"),
        (KdumpFile(SPLIT, split=(3, 6), max_mapnr=0x200), "another dump"),
    ]
    for other, reason in others:
        with pytest.raises(BadRecord, match=reason):
            opened(tmp_path, one, other)


def test_only_sets_take_several_files(tmp_path) -> None:
    with pytest.raises(BadRecord):
        opened(tmp_path, KdumpFile(SPLIT), KdumpFile(SPLIT))
    (tmp_path / "ram").write_bytes(b"x" * 4096)
    with pytest.raises(InputError, match="one file"):
        phypan.open(tmp_path, tmp_path / "dump.0")


def test_bitmaps_of_a_set_that_disagree_are_a_problem(tmp_path) -> None:
    other = {**SPLIT, 9: (page(9), RAW)}
    with opened(tmp_path, KdumpFile(SPLIT, split=(0, 3)), KdumpFile(other, split=(3, 10))) as dump:
        assert any("bitmaps are not those" in problem.what for problem in dump.problems)
        assert dump.memory.read(3 * SIZE, 4) == b"\x30" * 4


def test_flat_raw(tmp_path) -> None:
    data = KdumpFile({0: (basic(), RAW)}).write()
    with opened(tmp_path, flattened([(SIZE, data[SIZE:]), (0, data[:SIZE])])) as dump:
        assert dump.memory.read(0, SIZE) == basic()


def test_multiread(tmp_path) -> None:
    pages = {n: (page(n, 4096), ZLIB) for n in range(128)}
    with opened(tmp_path, KdumpFile(pages, page_size=4096, max_mapnr=128), cache=8192) as dump:
        numbers = random.Random(0).choices(range(128), k=2000)

        def right(number: int) -> bool:
            return dump.memory.read(number * 4096, 4096) == page(number, 4096)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(right, numbers))


def test_incomplete(tmp_path) -> None:
    pages = {0: (page(1), RAW), 1: (MISSING, RAW), 2: (page(3), RAW)}
    with opened(tmp_path, KdumpFile(pages, status=8)) as dump:
        assert dump.incomplete
        with pytest.raises(NotInDump, match="not finished"):
            dump.memory.read(SIZE, 1)
        assert dump.memory.state(SIZE)[0] is PageState.DAMAGED
        assert dump.memory.read(2 * SIZE, 1) == b"\3"


def test_pages_of_zeros_share_one_and_are_told(tmp_path) -> None:
    """As makedumpfile -d 1 writes it: the first bytes of the data are a page of zeros."""
    size = 4096
    at = 4096 * (1 + 1 + 2) + 3 * 24
    pages = {0: (bytes(size), RAW), 1: (page(7, size), RAW), 2: (MISSING, RAW)}
    file = KdumpFile(pages, page_size=size, max_mapnr=8, descriptors={2: (at, size, RAW, 0)})
    with opened(tmp_path, file) as dump:
        states = [dump.memory.state(n * size)[0] for n in range(3)]
        assert states == [PageState.ZERO, PageState.PRESENT, PageState.ZERO]
        assert dump.memory.read(2 * size, size) == bytes(size)


DAMAGED = {
    "behind the end": (1 << 40, SIZE, RAW, 0),
    "before the start": (-5, SIZE, RAW, 0),
    "at the largest offset": ((1 << 63) - 1, SIZE, RAW, 0),
    "more than a page": (SIZE, SIZE + 1, ZLIB, 0),
    "nothing": (SIZE, 0, ZLIB, 0),
    "all of 32 bits": (SIZE, 0xFFFFFFFF, ZLIB, 0),
    "raw but short": (SIZE, 100, RAW, 0),
    "two compressions": (SIZE, 100, ZLIB | LZO, 0),
    "no compression": (SIZE, 100, 0x40, 0),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_descriptor_that_cannot_be_right_is_a_damaged_page(tmp_path, kind: str) -> None:
    pages = {n: (page(n), ZLIB) for n in range(3)}
    with opened(tmp_path, KdumpFile(pages, descriptors={1: DAMAGED[kind]})) as dump:
        assert dump.incomplete
        with pytest.raises(NotInDump) as caught:
            dump.memory.read(SIZE, 1)
        assert caught.value.state == "damaged"
        assert dump.memory.read(0, 1) == b"\0"
        assert dump.memory.read(2 * SIZE, 1) == b"\2"


@pytest.mark.parametrize("how", ["zlib", "lzo", "snappy", "zstd"])
def test_a_stream_that_cannot_be_right_is_a_damaged_page(tmp_path, how: str) -> None:
    flags = COMPRESSIONS[how]
    pages = {0: (basic(), flags), 1: (b"too short", flags), 2: (basic(), flags)}
    with opened(tmp_path, KdumpFile(pages)) as dump:
        with pytest.raises(NotInDump, match="damaged") as caught:
            dump.memory.read(SIZE, SIZE)
        assert caught.value.address == SIZE
        assert dump.memory.read(2 * SIZE, SIZE) == basic()


def test_a_page_that_holds_a_bomb_is_damaged(tmp_path) -> None:
    bombs = {n: (bytes(32 << 20), flags) for n, flags in enumerate([ZLIB, SNAPPY, ZSTD])}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with opened(tmp_path, KdumpFile(bombs)) as dump:
        for number in bombs:
            with pytest.raises(NotInDump):
                dump.memory.read(number * SIZE, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10  # KiB


def test_stored_pages_that_are_no_memory_are_read_and_reported(tmp_path) -> None:
    data = bytearray(KdumpFile({0: (page(1), RAW), 5: (page(2), RAW)}).write())
    assert data[2 * SIZE] == 0b100001
    data[2 * SIZE] = 1  # of the first bitmap
    with opened(tmp_path, bytes(data)) as dump:
        assert "not memory" in dump.problems[0].what
        assert dump.memory.read(5 * SIZE, 1) == b"\2"


def test_other_machines_are_told(tmp_path) -> None:
    with pytest.raises(Unsupported, match="x86_64"):
        opened(tmp_path, KdumpFile({}, order="little", machine=b"x86_64"))
    with opened(tmp_path, KdumpFile({}, machine=b"Unknown")) as dump:  # as QEMU writes it
        assert dump.memory.size == 0


def test_every_truncation_is_an_error_or_holes(tmp_path) -> None:
    size = 4096
    pages = {n: (random.Random(n).randbytes(200).ljust(size, b"."), ZLIB) for n in range(20)}
    data = KdumpFile(pages, page_size=size, max_mapnr=64).write()
    for cut in [*range(0, 4 * size, 997), *range(4 * size, len(data), 61), len(data) - 1]:
        path = tmp_path / "cut"
        path.write_bytes(data[:cut])
        try:
            dump = phypan.open(path)
        except PhypanError:
            assert cut < 4 * size, "with its bitmaps it can be opened"
            continue
        with dump:
            assert dump.incomplete
            for number, (content, _) in pages.items():
                state, _ = dump.memory.state(number * size)
                assert state in (PageState.PRESENT, PageState.DAMAGED)
                if state is PageState.PRESENT:
                    assert dump.memory.read(number * size, size) == content


def test_random_damage_anywhere_raises_nothing_but_phypans_own(tmp_path) -> None:
    size, draw = 4096, random.Random(3)
    pages = {n: (draw.randbytes(300).ljust(size, b"."), draw.choice([ZLIB, LZO, RAW, SNAPPY, ZSTD]))
             for n in range(12)}  # fmt: skip
    notes = note(b"CORE", 1, bytes(504)) + note(b"VMCOREINFO", 0, b"OSRELEASE=1\nPAGESIZE=4096\n")
    good = KdumpFile(pages, page_size=size, max_mapnr=32, notes=notes).write()
    path = tmp_path / "damaged"
    for _ in range(300):
        data = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            place = draw.choice([draw.randrange(len(data)), draw.randrange(2 * size)])
            data[place] = draw.randrange(256)
        path.write_bytes(data)
        try:
            with phypan.open(path) as dump:
                for piece in dump.memory.pieces(0, min(dump.memory.end, 1 << 20)):
                    if not isinstance(piece, Hole):
                        piece.store.view(piece.offset, min(piece.size, 1 << 18))
        except PhypanError:
            pass
