"""The classification of struct pages: its three forms agree on anything, hostile tables too."""

from __future__ import annotations

import random
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phypan.kernels import struct_page as s
from phypan.kernels.twins import struct_page as twin

_PLACES = (s.MAPCOUNT, s.MAPPING, s.PRIVATE, s.HEAD_POINTER, s.ORDER, s.DESTRUCTOR)
_PAIRS = (s.BUDDY, s.UNACCEPTED, s.SLAB_VALUE, s.HUGETLB_VALUE, s.OFFLINE_VALUE)


def facts_of(draw: random.Random, stride: int) -> tuple[int, ...]:
    """Any facts: small masks and few bits, so that all rules meet."""
    facts = [0] * s.FACTS
    facts[s.STRIDE] = stride
    for place in _PLACES:
        facts[place] = draw.choice([-1, *range(stride)])
    facts[s.MAPCOUNT_SHIFT] = draw.choice((0, 32))
    facts[s.MAX_ORDER] = draw.randint(1, 12)
    for pair in _PAIRS:
        facts[pair + 1] = draw.choice((0, 7, 0xFF, 0xFF000000))
        facts[pair] = draw.getrandbits(32) & facts[pair + 1]
    for bit in range(s.BUDDY_BIT, s.HWPOISON + 1):
        facts[bit] = draw.choice((0, 1 << draw.randint(0, 7)))
    facts[s.NEEDS_SWAPBACKED] = draw.randint(0, 1)
    facts[s.ORDER_SHIFT], facts[s.ORDER_MASK] = draw.choice((0, 8)), draw.choice((3, 0xFF, -1))
    facts[s.DESTRUCTOR_MASK], facts[s.DESTRUCTOR_HUGETLB] = draw.choice((1, 3, -1)), 1
    facts[s.HUGETLB_BIT] = draw.choice((0, 4))
    return tuple(facts)


def words_of(draw: random.Random, count: int) -> list[int]:
    """Any words; small ones more often."""
    wide = [draw.getrandbits(64) - (1 << 63) for _ in range(count)]
    return [word & 0xFF if draw.random() < 0.6 else word for word in wide]


@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
def test_all_forms_agree(seed: int) -> None:
    numba = pytest.importorskip("numba")
    from phypan.kernels import compiled

    assert numba
    draw = random.Random(seed)
    stride, count = draw.choice((7, 8)), 2 * draw.randint(1, 40)
    words, facts = words_of(draw, stride * count), facts_of(draw, stride)
    start = [draw.choice((0, 0, 3, 1000)), draw.randint(0, 7)]
    results = []
    for function in (s.classify, twin.classify, compiled.classify):
        plain = function is s.classify
        state = array("q", start) if plain else np.array(start, np.int64)
        types = bytearray(count)
        out = types if plain else np.frombuffer(types, np.uint8)
        table = array("q", words) if plain else np.array(words, np.int64)
        function(table, count, 1024, facts, state, out)
        results.append((types, int(state[0]), int(state[1]) if state[0] else 0))
    assert results[0] == results[1] == results[2]


@settings(max_examples=50)
@given(st.integers(0, 1 << 32))
def test_pages_that_follow_go_on_where_the_others_ended(seed: int) -> None:
    draw = random.Random(seed)
    count = 64
    words, facts = words_of(draw, 8 * count), facts_of(draw, 8)
    whole, state = bytearray(count), array("q", [0, 0])
    s.classify(words, count, 0, facts, state, whole)
    parts, state = bytearray(), array("q", [0, 0])
    for first in range(0, count, 16):
        types = bytearray(16)
        s.classify(words[8 * first : 8 * (first + 16)], 16, first, facts, state, types)
        parts += types
    # Only the second struct page of a head at the end of a part is out of reach; heads of more
    # than one page are never there, as they are aligned to their size.
    ends = {first + 15 for first in range(0, count, 16)}
    heads = {n for n in ends if words[8 * n + facts[s.FLAGS]] & facts[s.HEAD]}
    if not heads:
        assert parts == whole
