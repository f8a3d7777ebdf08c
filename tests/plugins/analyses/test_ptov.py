"""ptov: what maps a physical address; its answers translate back, and nothing is left out."""

from __future__ import annotations

import phypan

PAGE_OFFSET = 0xC000000000000000


def test_answers_translate_back(real_dump) -> None:
    """One page of vmalloc and one of vmemmap: each is in the linear map as well."""
    for name in ("le-hash8", "le-radix10", "be-radix9"):
        with phypan.open(real_dump(name).path) as dump:
            space = dump.spaces["kernel"]
            ranges = [m for m in space.mappings() if m.first >> 48 in (0xC008, 0xC00C)]
            wanted = tuple({m.first >> 48: m.physical + 0x120 for m in ranges}.values())
            rows = list(phypan.run(dump, "ptov", addresses=wanted))
            assert {row.physical for row in rows} == set(wanted)
            for physical in wanted:
                found = {row.virtual for row in rows if row.physical == physical}
                assert PAGE_OFFSET + physical in found
                assert len(found) >= 2
            for row in rows:
                if row.owner == "kernel":
                    assert space.physical(row.virtual) == row.physical


def test_pages_of_processes_have_their_context(real_dump) -> None:
    """busybox's first page, which the shells share, by the hashed page table."""
    with phypan.open(real_dump("le-hash8").path) as dump:
        spaces = dump.spaces
        users = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context]
        wanted = users[0].entry.real
        expected = {
            (f"context {page.context:#x}", page.address)
            for page in users
            if page.entry.real == wanted
        }
        rows = list(phypan.run(dump, "ptov", addresses=(wanted,)))
    assert {(r.owner, r.virtual) for r in rows if r.by == "hashed page table"} == expected
    assert [row.by for row in rows if row.owner == "kernel"] == ["linear map"]


def test_an_address_that_nothing_maps_has_a_row_that_says_so(real_dump) -> None:
    with phypan.open(real_dump("le-radix10").path) as dump:
        (row,) = phypan.run(dump, "ptov", addresses=(1 << 50,))
    assert (row.virtual, row.owner, row.by) == (None, None, "nothing maps it")
