"""What each page is used for, by its struct page: a walk over arrays of them.

Linux include/linux/mm_types.h, page-flags.h; the rules are those of makedumpfile's
__exclude_unnecessary_pages(). Which word, bit or number means what is not known here: it comes as
`facts` out of VMCOREINFO (phypan.filtering.struct_page), and what a kernel does not tell is -1 or 0
there.

A struct page is STRIDE 64-bit words in this host's byte order. The first page of a free block or of
a compound page tells how many pages it has; they all get its type.
"""

from __future__ import annotations

from typing import Any

Words = Any  # int64[]: numpy's, or array.array("q")

# Types; POISONED may be added to each
OTHER, CACHE, CACHE_PRIVATE, USER, FREE, SLAB, HUGETLB, OFFLINE = range(8)
POISONED = 0x80

# Places in `facts`. Words are counted from the start of a struct page; -1 where there is none.
STRIDE = 0
FLAGS = 1
MAPCOUNT = 2  # word that holds _mapcount (page_type)
MAPCOUNT_SHIFT = 3  # how far it is to be shifted to the right
MAPPING = 4
PRIVATE = 5
HEAD_POINTER = 6  # compound_head
MAX_ORDER = 7  # free blocks have fewer than 1 << MAX_ORDER pages
# Pairs: (_mapcount & mask) == value; a mask of 0 never holds
BUDDY, BUDDY_MASK = 8, 9
UNACCEPTED, UNACCEPTED_MASK = 10, 11
SLAB_VALUE, SLAB_MASK = 12, 13
HUGETLB_VALUE, HUGETLB_MASK = 14, 15
OFFLINE_VALUE, OFFLINE_MASK = 16, 17
# Bits of the flags; 0 where there are none
BUDDY_BIT, SLAB_BIT, LRU, PRIVATE_BIT, SWAPCACHE, SWAPBACKED, HEAD, HWPOISON = range(18, 26)
NEEDS_SWAPBACKED = 26  # whether SWAPCACHE counts only together with SWAPBACKED
# Of the second struct page of a compound page
ORDER, ORDER_SHIFT, ORDER_MASK = 27, 28, 29
DESTRUCTOR, DESTRUCTOR_SHIFT, DESTRUCTOR_MASK, DESTRUCTOR_HUGETLB = 30, 31, 32, 33
HUGETLB_BIT = 34
FACTS = 35

LARGEST_ORDER = 30  # no compound page has more pages than 1 << this
# Places in `state`, which starts as zeros
REMAINING, KIND = 0, 1


def typed(mapcount: int, facts: Words, value: int, mask: int) -> bool:
    """Whether _mapcount says a type: of the pair in `facts` at places `value` and `mask`."""
    return bool(facts[mask] != 0 and mapcount & facts[mask] == facts[value])


def compound_order(words: Words, second: int, frame: int, facts: Words) -> int:
    """The order of a compound page, by its second struct page; 0 if that cannot be right."""
    if facts[ORDER] < 0:
        return 0
    order: int = words[second + facts[ORDER]] >> facts[ORDER_SHIFT] & facts[ORDER_MASK]
    if order < 0 or order > LARGEST_ORDER or frame & ((1 << order) - 1) != 0:
        return 0
    return order


def of_hugetlb(words: Words, second: int, mapcount: int, facts: Words) -> bool:
    """Whether a compound page is of hugetlb, by its own _mapcount and its second struct page."""
    if typed(mapcount, facts, HUGETLB_VALUE, HUGETLB_MASK):
        return True
    if words[second + facts[FLAGS]] & facts[HUGETLB_BIT] != 0:
        return True
    if facts[DESTRUCTOR] < 0:
        return False
    destructor = words[second + facts[DESTRUCTOR]] >> facts[DESTRUCTOR_SHIFT]
    return bool(destructor & facts[DESTRUCTOR_MASK] == facts[DESTRUCTOR_HUGETLB])


def cached(flags: int, facts: Words) -> bool:
    """Whether flags are those of a page on LRU lists or in the swap cache."""
    if flags & facts[LRU] != 0:
        return True
    if flags & facts[SWAPCACHE] == 0:
        return False
    return bool(facts[NEEDS_SWAPBACKED] == 0 or flags & facts[SWAPBACKED] != 0)


def used(words: Words, page: int, mapcount: int, slab: bool, hugetlb: bool, facts: Words) -> int:
    """The type of a page that is not free."""
    flags = words[page + facts[FLAGS]]
    mapping = words[page + facts[MAPPING]] if facts[MAPPING] >= 0 else 0
    anonymous = mapping & 1 != 0 and not slab
    if cached(flags, facts) and not anonymous:
        return CACHE_PRIVATE if flags & facts[PRIVATE_BIT] != 0 else CACHE
    if anonymous:
        return USER
    if hugetlb:
        return HUGETLB
    if slab:
        return SLAB
    return OFFLINE if typed(mapcount, facts, OFFLINE_VALUE, OFFLINE_MASK) else OTHER


def first_of_run(
    words: Words, page: int, has_second: bool, frame: int, facts: Words
) -> tuple[int, int]:
    """(type, order) of a page that no run covers: 1 << order pages from it on have that type."""
    if facts[HEAD_POINTER] >= 0 and words[page + facts[HEAD_POINTER]] & 1 != 0:
        return OTHER, 0  # a tail of a compound page that told no order
    flags, mapcount = words[page + facts[FLAGS]], 0
    if facts[MAPCOUNT] >= 0:
        mapcount = words[page + facts[MAPCOUNT]] >> facts[MAPCOUNT_SHIFT] & 0xFFFFFFFF
    slab = flags & facts[SLAB_BIT] != 0 or typed(mapcount, facts, SLAB_VALUE, SLAB_MASK)
    buddy = flags & facts[BUDDY_BIT] != 0
    buddy = buddy or (not slab and typed(mapcount, facts, BUDDY, BUDDY_MASK))
    if buddy and facts[PRIVATE] >= 0:
        order = words[page + facts[PRIVATE]]
        # an order that no free block has: it is not taken for one
        return (FREE, order) if 0 <= order < facts[MAX_ORDER] else (OTHER, 0)
    if typed(mapcount, facts, UNACCEPTED, UNACCEPTED_MASK):
        return FREE, facts[MAX_ORDER] - 1
    order, hugetlb = 0, False
    if has_second and flags & facts[HEAD] != 0:
        second = page + facts[STRIDE]
        order = compound_order(words, second, frame, facts)
        hugetlb = of_hugetlb(words, second, mapcount, facts)
    return used(words, page, mapcount, slab, hugetlb, facts), order


def classify(words: Words, count: int, pfn: int, facts: Words, state: Words, types: Any) -> None:
    """The types of `count` pages.

    words  int64[count * STRIDE], the struct pages
    pfn    page frame number of the first; even
    facts  FACTS integers, a tuple
    state  int64[2], what goes on from the pages before: the same array for pages that follow
    types  uint8[count], overwritten
    """
    stride = facts[STRIDE]
    remaining, kind = state[REMAINING], state[KIND]
    for index in range(count):
        page = index * stride
        if remaining > 0:
            remaining -= 1
        else:
            kind, order = first_of_run(words, page, index + 1 < count, pfn + index, facts)
            remaining = (1 << order) - 1
        poisoned = words[page + facts[FLAGS]] & facts[HWPOISON] != 0
        types[index] = kind | POISONED if poisoned else kind
    state[REMAINING], state[KIND] = remaining, kind
