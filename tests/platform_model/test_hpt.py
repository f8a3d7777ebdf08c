"""The page table and its hypervisor calls; the numbers are computed vectors of the formulae."""

from __future__ import annotations

from phypan.formats import hpte, hptesave
from phypan.platform.hpt import (
    H_ANDCOND,
    H_AVPN,
    H_EXACT,
    H_NOT_FOUND,
    H_PARAMETER,
    H_PTEG_FULL,
    H_READ_4,
    H_SUCCESS,
    HashedPageTable,
)

FIRST = 0x40004F7CA3000015  # a bolted 16M page of the linear map, 1T segment


def test_enter_read_remove() -> None:
    table = HashedPageTable(18)
    assert table.h_enter(0, 8, FIRST, 0x190) == (H_SUCCESS, 8)
    assert table.h_enter(0, 8, FIRST, 0x190) == (H_SUCCESS, 9), "the next free slot of the group"
    assert table.h_enter(H_EXACT, 9, FIRST, 0x190) == (H_PTEG_FULL, 0)
    assert table.h_read(0, 9) == (H_SUCCESS, [(FIRST, 0x190)])
    assert table.h_read(H_READ_4, 10) == (H_SUCCESS, [(FIRST, 0x190)] * 2 + [(0, 0)] * 2)
    assert table.h_remove(H_AVPN, 9, 0) == (H_NOT_FOUND, 0, 0)
    assert table.h_remove(H_ANDCOND, 9, 0x10) == (H_NOT_FOUND, 0, 0), "it is bolted"
    assert table.h_remove(H_AVPN, 9, FIRST & ~0x7F) == (H_SUCCESS, FIRST, 0x190)
    assert table.h_remove(0, 9, 0) == (H_NOT_FOUND, 0, 0)


def test_calls_outside_of_the_table_are_refused() -> None:
    table = HashedPageTable(18)
    outside = table.groups * 8
    assert table.h_enter(0, outside, FIRST, 0)[0] == H_PARAMETER
    assert table.h_enter(0, 0, FIRST & ~1, 0)[0] == H_PARAMETER, "not valid"
    assert table.h_remove(0, outside, 0)[0] == H_PARAMETER
    assert table.h_read(0, -1) == (H_PARAMETER, [])


def test_a_full_group_is_full() -> None:
    table = HashedPageTable(18)
    assert [table.h_enter(0, 16, FIRST, 0)[1] for _ in range(8)] == list(range(16, 24))
    assert table.h_enter(0, 16, FIRST, 0) == (H_PTEG_FULL, 0)


def test_vrma_entries_are_the_computed_ones() -> None:
    """For a table of 64 MiB: first doubleword and index of the pages at 0, 16M and 240M."""
    table = HashedPageTable(26)
    table.map_vrma(256 << 20)
    entries = {second & ~0xFFF: (index, first) for index, first, second in table.vrma_entries()}
    assert len(entries) == 16
    assert entries[0] == (0x3FFFF8, 0x4001FFFFFF000015)
    assert entries[0x1000000] == (0x3FFFF0, 0x4001FFFFFF000115)
    assert entries[0xF000000] == (0x3FFF80, 0x4001FFFFFF000F15)


def test_the_save_area_tells_the_vrma_back() -> None:
    table = HashedPageTable(24)
    table.map_vrma(128 << 20)
    area = hptesave.read(hptesave.write(table.vrma_entries()))
    assert [entry.vrma for entry in area.entries] == [True] * 8
    assert sorted(entry.real for entry in area.entries) == [n << 24 for n in range(8)]
    for entry in area.entries:
        assert entry.actual_shift == 24
        assert entry.virtual(table.groups) == hpte.VRMA_VSID << 40 | entry.real


def test_a_saved_table_is_the_table(tmp_path) -> None:
    table = HashedPageTable(18)
    table.h_enter(0, 8, FIRST, 0x190)
    table.save(tmp_path / "hpt")
    data = (tmp_path / "hpt").read_bytes()
    assert len(data) == 1 << 18
    assert hpte.read(data)[8] == (FIRST, 0x190)
    assert sum(first != 0 for first, _ in hpte.read(data)) == 1
