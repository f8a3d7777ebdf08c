"""Masks: pages that an extent covers and that are not there all the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import BytesStore, Extent, Hole, Memory, NotInDump, PageMask, PageState
from phypan.pages.bits import set_run

SIZE = 64  # bytes in a page of these tests
COUNT = 24


def _map(pages: set[int]) -> bytearray:
    data = bytearray(COUNT // 8)
    for page in pages:
        set_run(data, page, 1)
    return data


def _memory(*masks: PageMask, holes=()) -> Memory:
    data = bytes(n % 251 for n in range(COUNT * SIZE))
    return Memory([Extent(0, len(data), BytesStore(data), 0)], holes, masks)


_PAGES = st.sets(st.integers(0, COUNT - 1))


@given(_PAGES, _PAGES, _PAGES, st.integers(0, COUNT * SIZE), st.integers(0, COUNT * SIZE))
def test_what_is_there_and_why_not_is_told_page_by_page(kept, filtered, damaged, one, other):
    start, end = sorted((one, other))
    reasons = [(_map(damaged), PageState.DAMAGED, "x"), (_map(filtered), PageState.EXCLUDED, "y")]
    first = PageMask(SIZE, _map(kept), reasons)
    second = PageMask(SIZE, _map(set(range(COUNT)) - filtered), otherwise=(PageState.ABSENT, "z"))
    memory = _memory(first, second)
    expected = {}
    for page in range(COUNT):
        if page in kept:
            expected[page] = "z" if page in filtered else None
        else:
            expected[page] = "x" if page in damaged else "y" if page in filtered else (
                "no part of the dump covers it"
            )  # fmt: skip
    found = {}
    position = start
    for piece in memory.pieces(start, end):
        assert piece.start == position
        position = piece.end
        for address in range(piece.start, piece.end):
            found[address] = piece.why if isinstance(piece, Hole) else None
    assert position == max(start, end) or start == end
    assert found == {n: expected[n // SIZE] for n in range(start, end)}
    data = bytes(n % 251 for n in range(COUNT * SIZE))
    if any(found[n] is not None for n in range(start, end)):
        with pytest.raises(NotInDump) as caught:
            memory.read(start, end - start)
        assert caught.value.address == next(n for n in range(start, end) if found[n] is not None)
    else:
        assert memory.read(start, end - start) == data[start:end]
    buffer = bytearray(end - start)
    if not any(found[n] is not None for n in range(start, end)):
        memory.readinto(start, memoryview(buffer))
        assert buffer == data[start:end]


@given(_PAGES)
def test_neighbouring_holes_of_one_reason_are_one(kept) -> None:
    pieces = list(_memory(PageMask(SIZE, _map(kept))).pieces(0, COUNT * SIZE))
    for before, after in pairwise(pieces):
        both = isinstance(before, Hole) and isinstance(after, Hole)
        assert not (both and before.why == after.why)


def test_known_holes_tell_more_than_a_mask_but_damage_counts_first() -> None:
    known = [Hole(0, 4 * SIZE, PageState.ABSENT, "given to the firmware")]
    damaged = PageMask(SIZE, _map(set()), [(_map({2}), PageState.DAMAGED, "broken")])
    memory = _memory(damaged, holes=known)
    assert [memory.at(page * SIZE).why for page in range(5)] == [
        "given to the firmware", "given to the firmware", "broken", "given to the firmware",
        "no part of the dump covers it",
    ]  # fmt: skip


def test_the_state_of_a_page_is_told() -> None:
    class Sparse(BytesStore):
        def data(self, offset, size):
            return ((start, 1) for start in range(offset, offset + size) if start >= SIZE)

    kept = PageMask(SIZE, _map({0, 1}), otherwise=(PageState.EXCLUDED, "left out"))
    memory = Memory([Extent(0, COUNT * SIZE, Sparse(bytes(COUNT * SIZE)), 0)], masks=[kept])
    states = [memory.state(page * SIZE)[0] for page in range(3)]
    assert states == [PageState.ZERO, PageState.PRESENT, PageState.EXCLUDED]


def test_pages_behind_the_map_are_not_there() -> None:
    memory = _memory(PageMask(SIZE, b"\xff"))
    assert memory.size == 8 * SIZE
    with pytest.raises(NotInDump):
        memory.view(8 * SIZE, 1)
    assert memory.view(8 * SIZE - 1, 1) == bytes([(8 * SIZE - 1) % 251])
