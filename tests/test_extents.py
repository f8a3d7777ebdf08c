"""Extents: what overlaps is cut by whose turn it is, whatever the order of addresses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phypan import BadRecord, BytesStore, Extent, Hole
from phypan.extents import EVERYWHERE, checked, foremost, part, without_overlaps

STORE = BytesStore(bytes(200))
PLACES = st.tuples(st.integers(0, 60), st.integers(0, 20))


def extents(places: list[tuple[int, int]]) -> list[Extent]:
    return [Extent(start, size, STORE, 3 * n) for n, (start, size) in enumerate(places)]


@given(st.lists(PLACES, max_size=12))
def test_of_extents_that_overlap_the_earlier_counts_byte_for_byte(places) -> None:
    given_ = extents(places)
    kept, dropped = without_overlaps(given_)
    expected: dict[int, int] = {}
    for extent in given_:
        for address in range(extent.start, extent.end):
            expected.setdefault(address, extent.offset + address - extent.start)
    found = {
        address: one.offset + address - one.start
        for one in kept
        for address in range(one.start, one.end)
    }
    assert found == expected
    assert sum(one.size for one in kept) == len(expected), "none of them twice"
    assert sum(one.size for one in [*kept, *dropped]) == sum(size for _, size in places)
    assert all(one.size for one in [*kept, *dropped])


@given(st.lists(PLACES, max_size=12))
def test_what_is_seen_of_each_is_in_order_and_in_one_piece(places) -> None:
    pieces = list(checked(extents(places)))
    seen = list(foremost(pieces))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(seen))
    for start, end, index in seen:
        assert pieces[index].start <= start < end <= pieces[index].end
        covering = [n for n, one in enumerate(pieces) if one.start <= start and end <= one.end]
        assert min(covering) == index
    for first, second in itertools.pairwise(seen):
        assert first[1:] != (second[0], second[2]), "two that follow each other are one"


def test_a_part_lies_where_it_lay() -> None:
    assert part(Extent(100, 50, STORE, 7), 110, 120) == Extent(110, 10, STORE, 17)


@pytest.mark.parametrize(("start", "size"), [(-1, 2), (1, -1), (EVERYWHERE - 1, 2)])
def test_what_leaves_the_64_bits_of_an_address_is_refused(start: int, size: int) -> None:
    with pytest.raises(BadRecord):
        list(checked([Hole(start, size)]))


def test_what_is_empty_is_left_out() -> None:
    assert list(checked([Hole(5, 0), Hole(EVERYWHERE - 1, 1)])) == [Hole(EVERYWHERE - 1, 1)]
