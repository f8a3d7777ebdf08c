"""Physical memory: what is there, what is not, and why; compared with a byte-by-byte model."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan.errors import BadRecord, InputError, NotInDump
from phypan.memory import EVERYWHERE, Extent, Hole, Memory, PageState, without_overlaps
from phypan.stores import BytesStore, FileStore

SPACE = 96  # addresses of the small world that properties live in
STORE = BytesStore(bytes(range(1, 201)), "bytes 1 to 200")


def extents(count: int = 8) -> st.SearchStrategy[list[Extent]]:
    return st.lists(
        st.builds(
            Extent, st.integers(0, SPACE), st.integers(0, 24), st.just(STORE), st.integers(0, 100)
        ),
        max_size=count,
    )


holes = st.lists(
    st.builds(
        Hole,
        st.integers(0, SPACE),
        st.integers(0, 32),
        st.sampled_from(PageState),
        st.sampled_from(["first", "second", "third"]),
    ),
    max_size=8,
)


def model(given_extents, given_holes=()):
    """address -> (byte, None) or (None, hole), by the slow and obvious way."""
    world = dict.fromkeys(range(2 * SPACE))
    for hole in reversed(given_holes):
        for address in range(hole.start, hole.start + hole.size):
            world[address] = (None, (hole.state, hole.why))
    for extent in reversed(given_extents):
        for n in range(extent.size):
            world[extent.start + n] = (STORE.view(extent.offset + n, 1)[0], None)
    return {
        at: what or (None, (PageState.ABSENT, "no part of the dump covers it"))
        for at, what in world.items()
    }


def apart(pieces) -> list[Extent]:
    return without_overlaps(pieces)[0]


@given(extents(), holes)
def test_every_address_is_what_the_model_says(found, reasons) -> None:
    memory = Memory(apart(found), reasons)
    expected = model(apart(found), reasons)
    for address, (byte, hole) in expected.items():
        piece = memory.at(address)
        assert piece.start == address
        if byte is None:
            assert isinstance(piece, Hole)
            assert (piece.state, piece.why) == hole
            with pytest.raises(NotInDump) as caught:
                memory.read(address, 1)
            assert (caught.value.address, caught.value.state) == (address, hole[0].value)
        else:
            assert isinstance(piece, Extent)
            assert memory.read(address, 1) == bytes([byte])
    assert memory.size == sum(byte is not None for byte, _ in expected.values())


@given(extents(), holes, st.integers(0, 2 * SPACE), st.integers(0, 2 * SPACE))
def test_pieces_tile_any_range_without_gaps(found, reasons, start, end) -> None:
    memory = Memory(apart(found), reasons)
    at = start
    for piece in memory.pieces(start, end):
        assert piece.start == at
        assert piece.size > 0
        at = piece.end
    assert at == max(start, end) if start < end else at == start


def tried(memory: Memory, start: int, size: int) -> bytes | int:
    """The bytes, or the address that could not be read."""
    try:
        return memory.read(start, size)
    except NotInDump as error:
        return error.address


@given(extents(), holes, st.data())
def test_reading_in_pieces_equals_reading_at_once(found, reasons, data) -> None:
    memory = Memory(apart(found), reasons)
    start = data.draw(st.integers(0, SPACE))
    size = data.draw(st.integers(0, SPACE))
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=5)))
    whole = tried(memory, start, size)
    parts = [
        tried(memory, start + a, b - a) for a, b in zip([0, *cuts], [*cuts, size], strict=True)
    ]
    if isinstance(whole, bytes):
        assert whole == b"".join(parts)
        assert bytes(memory.view(start, size)) == whole
        assert memory.view(start, size).readonly
    else:
        assert start <= whole < start + size
        assert isinstance(memory.at(whole), Hole)
        assert len(tried(memory, start, whole - start)) == whole - start, "all before it is there"
        assert whole == next(part for part in parts if isinstance(part, int))


@given(extents(), st.integers(1, 40), st.integers(0, 20))
def test_stretches_show_every_byte_once_and_the_overlap_again(found, size, overlap) -> None:
    memory = Memory(apart(found))
    expected = {at: byte for at, (byte, _) in model(apart(found)).items() if byte is not None}
    seen: dict[int, int] = {}
    for address, view in memory.stretches(size=size, overlap=overlap):
        assert 0 < len(view) <= size + overlap
        for n, byte in enumerate(view):
            assert expected[address + n] == byte
            if n < size:
                assert address + n not in seen
                seen[address + n] = byte
    assert seen == expected


def test_a_word_at_a_border_is_found_in_the_overlap() -> None:
    data = bytes(1000) + b"needle" + bytes(1000)
    memory = Memory([Extent(0x4000, len(data), BytesStore(data), 0)])
    for size in range(995, 1008):
        found = {
            address + bytes(view).index(b"needle")
            for address, view in memory.stretches(size=size, overlap=5)
            if b"needle" in bytes(view)
        }
        assert found == {0x4000 + 1000}


def test_holes_in_a_file_are_not_looked_at_but_are_zeros(folder) -> None:
    with (folder / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 4096)
        file.truncate(1 << 24)
    with FileStore(folder / "sparse") as store:
        memory = Memory([Extent(0, store.size, store, 0)])
        shown = sum(len(view) for _, view in memory.stretches())
        assert 4096 <= shown < 1 << 20
        assert memory.read(0, 16) == bytes(16)


@given(extents(12))
def test_of_two_that_overlap_the_earlier_counts(found) -> None:
    kept, dropped = without_overlaps(found)
    memory = Memory(kept)  # which refuses overlaps
    expected = model(found)
    for address, (byte, _) in expected.items():
        assert (memory.read(address, 1)[0] if byte is not None else None) == byte
    assert sum(extent.size for extent in found) == sum(e.size for e in [*kept, *dropped])
    for part in dropped:
        assert memory.read(part.start, part.size), "what is left out is held by another"
        assert any(
            whole.start <= part.start
            and part.end <= whole.end
            and part.offset - whole.offset == part.start - whole.start
            for whole in found
        )


@given(extents(), holes)
def test_holes_are_all_that_cannot_be_read(found, reasons) -> None:
    memory = Memory(apart(found), reasons)
    missing = sum(hole.size for hole in memory.holes())
    assert missing + memory.size == memory.end
    ends = [piece.end for piece in [*apart(found), *reasons] if piece.size]
    assert memory.end == max(ends, default=0)


@pytest.mark.parametrize(
    ("start", "size"),
    [(-1, 10), (0, -1), (EVERYWHERE, 1), (EVERYWHERE - 5, 6), (1 << 70, 1), (0, EVERYWHERE + 1)],
)
def test_what_wraps_around_is_refused(start, size) -> None:
    piece = Extent(start, size, STORE, 0)
    for make in (
        lambda: Memory([piece]),
        lambda: Memory([], [Hole(start, size)]),
        lambda: without_overlaps([piece]),
    ):
        with pytest.raises(BadRecord):
            make()
    with pytest.raises(BadRecord):
        Memory([Extent(0, 10, STORE, 0)]).read(start, size)


def test_two_extents_at_one_address_are_refused() -> None:
    with pytest.raises(BadRecord, match="0x5"):
        Memory([Extent(5, 5, STORE, 0), Extent(0, 6, STORE, 0)])


def test_the_last_byte_of_all_can_be_read() -> None:
    memory = Memory([Extent(EVERYWHERE - 4, 4, STORE, 0)])
    assert memory.read(EVERYWHERE - 2, 2) == bytes([3, 4])
    assert memory.at(EVERYWHERE - 1) == Extent(EVERYWHERE - 1, 1, STORE, 3)
    assert memory.end == EVERYWHERE


@pytest.mark.parametrize("address", [-1, EVERYWHERE, 1 << 80])
def test_there_is_nothing_outside_of_64_bits(address) -> None:
    with pytest.raises(BadRecord):
        Memory([]).at(address)
    with pytest.raises(BadRecord):
        list(Memory([]).pieces(address, address + 1))


def test_an_empty_memory_is_one_hole() -> None:
    memory = Memory([])
    assert (memory.end, memory.size, list(memory.holes())) == (0, 0, [])
    assert memory.at(0) == Hole(0, EVERYWHERE)
    assert memory.read(0, 0) == b""
    with pytest.raises(NotInDump):
        memory.read(0, 1)


def test_an_extent_behind_the_end_of_its_store_is_an_error_and_not_zeros() -> None:
    memory = Memory([Extent(0, 500, STORE, 0)])
    with pytest.raises(InputError, match="bytes 1 to 200"):
        memory.read(190, 20)


def test_a_wild_size_fails_at_its_first_hole_and_takes_no_memory() -> None:
    memory = Memory([Extent(0, 100, STORE, 0)])
    tracemalloc.start()
    with pytest.raises(NotInDump) as caught:
        memory.read(50, 1 << 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.address == 100
    assert peak < 1 << 20


@pytest.mark.parametrize("shape", ["ascending", "descending", "all overlapping", "nested"])
def test_a_hundred_thousand_extents_are_sorted_out_in_seconds(shape) -> None:
    """What a damaged file can describe: twice the largest number of PT_LOADs of old."""
    count = 100_000
    spans = {
        "ascending": ((n << 16, 1 << 15) for n in range(count)),
        "descending": ((n << 16, 1 << 15) for n in reversed(range(count))),
        "all overlapping": ((n << 8, 1 << 30) for n in range(count)),
        "nested": ((n, 2 * (count - n)) for n in reversed(range(count))),
    }[shape]
    began = time.process_time()
    kept, dropped = without_overlaps(Extent(start, size, STORE, 0) for start, size in spans)
    memory = Memory(kept, [Hole(extent.start, extent.size) for extent in dropped])
    pieces = sum(1 for _ in memory.pieces(0, memory.end))
    assert pieces >= len(kept)
    assert time.process_time() - began < 15, "about 1 s alone on an idle machine"


OPEN_SPARSE = """
import sys, time
import phypan
path = sys.argv[1]
began = time.process_time()
with phypan.FileStore(path) as store:
    memory = phypan.Memory([phypan.Extent(0, store.size, store, 0)])
    assert memory.size == 2 << 40
    assert memory.read(1 << 40, 5) == b"there"
    assert memory.read((2 << 40) - 4, 4) == bytes(4)
    assert sum(len(view) for _, view in memory.stretches()) < 1 << 20
took = time.process_time() - began
# Not ru_maxrss: that knows what the parent had before it became this process.
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(took, peak)
"""


def test_a_sparse_image_of_2_tib_opens_at_once_and_takes_no_memory(folder) -> None:
    path = folder / "huge"
    with path.open("wb") as file:
        try:
            file.truncate(2 << 40)
        except OSError:
            pytest.skip("this file system has no files of 2 TiB")
        file.seek(1 << 40)
        file.write(b"there")
    done = subprocess.run(
        [sys.executable, "-c", OPEN_SPARSE, str(path)], capture_output=True, text=True, check=True
    )
    seconds, kilobytes = done.stdout.split()
    assert float(seconds) < 1
    assert int(kilobytes) < 100 << 10


def test_a_view_is_not_a_copy(folder) -> None:
    path = folder / "ram"
    path.write_bytes(os.urandom(1 << 20) * 8)
    with FileStore(path) as store:
        memory = Memory([Extent(0, store.size, store, 0)])
        tracemalloc.start()
        views = [memory.view(n << 20, 1 << 20) for n in range(8)]
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(views) == 8
        assert taken < 1 << 16
