"""Which form and which scheme of segments a hashed page table has: tried on the linear map.

Linux bolts its linear map into the table, so that the right pair translates addresses that are
known to be in use to themselves less PAGE_OFFSET, and a wrong one finds no entries.
"""

from __future__ import annotations

from phypan.errors import Problem
from phypan.extents import Extent
from phypan.formats.hpte import PageSizes
from phypan.memory import Memory
from phypan.spaces.clues import Clues
from phypan.spaces.eras import PAGE_OFFSET, Era
from phypan.spaces.hash import HashSpace
from phypan.spaces.hashtable import HashTable
from phypan.spaces.vsid import SCHEMES, Scheme
from phypan.stores import Store

WHERE = "hashed page table"


def find_scheme(
    store: Store, sizes: PageSizes, clues: Clues, era: Era | None
) -> tuple[HashTable, Scheme, list[Problem]]:
    """(the table that `store` is, its scheme, problems); BadRecord when it is none.

    Several schemes make the same segments of the linear map; among them that of the era counts.
    """
    memory = Memory([Extent(0, store.size, store, 0)])
    known = [clue.address for clue in clues.linear] or [PAGE_OFFSET]
    best: tuple[tuple[int, bool], HashTable, Scheme] | None = None
    for v3 in (False, True):
        table = HashTable(memory, 0, store.size, sizes, v3=v3)
        for scheme in SCHEMES:
            if scheme.page_shift not in (None, clues.page_shift):
                continue
            space = HashSpace("", clues.memory, table, scheme)
            right = sum(space.translate(at).physical == at - PAGE_OFFSET for at in known)
            rank = (right, _same_time(scheme, era))
            if best is None or rank > best[0]:
                best = rank, table, scheme
    assert best is not None
    (right, in_time), table, scheme = best
    problems = []
    if not right:
        what = "no known kind of segments translates the linear map through it"
        problems.append(Problem(what, WHERE, f"segments are made as Linux {scheme.name} did"))
    elif era is not None and not in_time:
        what = f"segments are those of Linux {scheme.name}, page tables {era.name}"
        problems.append(Problem(what, WHERE, "both were used as they are"))
    return table, scheme, problems


def _same_time(scheme: Scheme, era: Era | None) -> bool:
    """Whether there was a release that had both."""
    if era is None:
        return False
    return (scheme.until is None or era.since < scheme.until) and (
        era.until is None or scheme.since < era.until
    )
