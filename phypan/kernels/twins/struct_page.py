"""kernels.struct_page, vectorised: each page by itself, then the runs over that."""

from __future__ import annotations

from typing import Any

import numpy as np

from phypan.kernels import struct_page as s


def classify(words: Any, count: int, pfn: int, facts: Any, state: Any, types: Any) -> None:
    """As kernels.struct_page.classify."""
    if not count:
        return
    table = np.asarray(words).reshape(-1, int(facts[s.STRIDE]))[:count]
    flags = table[:, facts[s.FLAGS]]
    zeros = np.zeros(count, np.int64)
    mapcount, mapping = zeros, zeros
    if facts[s.MAPCOUNT] >= 0:
        mapcount = table[:, facts[s.MAPCOUNT]] >> facts[s.MAPCOUNT_SHIFT] & 0xFFFFFFFF
    if facts[s.MAPPING] >= 0:
        mapping = table[:, facts[s.MAPPING]]

    def typed(value: int, mask: int) -> Any:
        return mapcount & facts[mask] == facts[value] if facts[mask] else zeros.astype(bool)

    def flagged(place: int) -> Any:
        return flags & facts[place] != 0

    slab = flagged(s.SLAB_BIT) | typed(s.SLAB_VALUE, s.SLAB_MASK)
    anonymous = (mapping & 1 != 0) & ~slab
    cached = flagged(s.LRU) | (
        flagged(s.SWAPCACHE) & (flagged(s.SWAPBACKED) | (facts[s.NEEDS_SWAPBACKED] == 0))
    )
    orders, hugetlb = _compound(table, pfn, flagged(s.HEAD), facts)
    hugetlb |= flagged(s.HEAD) & typed(s.HUGETLB_VALUE, s.HUGETLB_MASK)
    hugetlb[-1] = False
    buddy = flagged(s.BUDDY_BIT) | (typed(s.BUDDY, s.BUDDY_MASK) & ~slab)
    buddy &= facts[s.PRIVATE] >= 0
    private = table[:, facts[s.PRIVATE]] if facts[s.PRIVATE] >= 0 else zeros
    block = (private >= 0) & (private < facts[s.MAX_ORDER])
    unaccepted = typed(s.UNACCEPTED, s.UNACCEPTED_MASK)
    pages = [
        (buddy & block, s.FREE, private),
        (buddy, s.OTHER, zeros),
        (unaccepted, s.FREE, zeros + facts[s.MAX_ORDER] - 1),
        (cached & ~anonymous & flagged(s.PRIVATE_BIT), s.CACHE_PRIVATE, orders),
        (cached & ~anonymous, s.CACHE, orders),
        (anonymous, s.USER, orders),
        (hugetlb, s.HUGETLB, orders),
        (slab, s.SLAB, orders),
        (typed(s.OFFLINE_VALUE, s.OFFLINE_MASK), s.OFFLINE, orders),
    ]
    if facts[s.HEAD_POINTER] >= 0:
        tails = table[:, facts[s.HEAD_POINTER]] & 1 != 0
        pages.insert(0, (tails, s.OTHER, zeros))
    conditions = [condition for condition, _, _ in pages]
    kinds = np.select(conditions, [np.int64(kind) for _, kind, _ in pages], s.OTHER)
    orders = np.select(conditions, [order for _, _, order in pages], orders)
    _runs(kinds, orders, state)
    types[:] = kinds | np.where(flagged(s.HWPOISON), s.POISONED, 0)


def _compound(table: Any, pfn: int, heads: Any, facts: Any) -> tuple[Any, Any]:
    """(orders, whether it is of hugetlb), by the second struct page of each compound page."""
    count = len(table)
    orders, hugetlb = np.zeros(count, np.int64), np.zeros(count, bool)
    if count < 2:
        return orders, hugetlb
    second = table[1:]
    if facts[s.ORDER] >= 0:
        orders[:-1] = second[:, facts[s.ORDER]] >> facts[s.ORDER_SHIFT] & facts[s.ORDER_MASK]
    hugetlb[:-1] = second[:, facts[s.FLAGS]] & facts[s.HUGETLB_BIT] != 0
    if facts[s.DESTRUCTOR] >= 0:
        destructors = second[:, facts[s.DESTRUCTOR]] >> facts[s.DESTRUCTOR_SHIFT]
        hugetlb[:-1] |= destructors & facts[s.DESTRUCTOR_MASK] == facts[s.DESTRUCTOR_HUGETLB]
    orders[~heads | (orders < 0) | (orders > s.LARGEST_ORDER)] = 0
    aligned = (np.arange(count) + pfn) & ((1 << orders) - 1) == 0
    orders[~aligned] = 0
    return orders, hugetlb & heads


def _runs(kinds: Any, orders: Any, state: Any) -> None:
    """Give all pages of a run the kind of its first, in place."""
    count, position = len(kinds), min(int(state[s.REMAINING]), len(kinds))
    kinds[:position] = state[s.KIND]
    remaining = int(state[s.REMAINING]) - position
    for head in np.flatnonzero(orders).tolist():
        if head >= position:
            end = head + (1 << int(orders[head]))
            kinds[head : min(end, count)] = kinds[head]
            position, remaining = end, max(0, end - count)
    state[s.REMAINING], state[s.KIND] = remaining, kinds[-1]
