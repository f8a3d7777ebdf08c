"""Ranges against a set of integers."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from phypan.ranges import Ranges

stretch = st.tuples(st.integers(0, 40), st.integers(0, 40))


def integers(stretches) -> set[int]:
    return {n for start, end in stretches for n in range(start, end)}


@given(st.lists(stretch, max_size=12), stretch)
def test_it_is_the_set_of_its_integers(stretches, window) -> None:
    ranges, truth = Ranges(stretches), integers(stretches)
    inside = set(range(*window))
    assert integers(ranges) == truth
    assert ranges.size == len(truth)
    assert bool(ranges) == bool(truth)
    assert integers(ranges.gaps(*window)) == inside - truth
    assert integers(ranges.within(*window)) == inside & truth
    assert ranges.covers(*window) == (inside <= truth)
    listed = list(ranges)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(listed)), "they do not touch"
    assert all(start < end for start, end in [*listed, *ranges.gaps(*window)])
    assert list(Ranges(reversed(stretches))) == listed
