"""hpt: a real table counted anew by hand, and entries made wrong on purpose, found one by one."""

from __future__ import annotations

import struct
from collections import Counter

import pytest

import phypan

GROUP = 128
ENTRY = struct.Struct(">QQ")


@pytest.fixture
def table(real_dump):
    """The bytes of a real table, to be changed, and a dump that is opened with them."""
    real = real_dump("le-hash8")
    data = bytearray((real.path / "hpt").read_bytes())

    def rows(folder):
        path = folder / "changed"
        path.write_bytes(data)
        with phypan.open(real.path, hpt=path) as dump:
            return list(phypan.run(dump, "hpt"))

    return data, rows


def test_a_real_table_counted_by_hand(table, folder) -> None:
    data, rows = table
    entries = [ENTRY.unpack_from(data, at) for at in range(0, len(data), 16)]
    valid = [first & 1 for first, _ in entries]
    groups = Counter(sum(valid[n : n + 8]) for n in range(0, len(valid), 8))
    found = {(row.section, row.item): row.count for row in rows(folder)}
    assert found["groups", "all"] == len(data) // GROUP
    for n in range(9):
        assert found.get(("groups", f"with {n} entries"), 0) == groups[n]
    assert found["entries", "valid"] == sum(valid)
    assert found["entries", "bolted"] == sum(first & 0x11 == 0x11 for first, _ in entries)
    assert found["entries", "in their secondary group"] == sum(f & 3 == 3 for f, _ in entries)
    assert found["entries", "kernel"] + found["entries", "user"] == sum(valid)
    assert found["pages", "64K in 64K segments"] == sum(valid)
    assert not any(section == "audit" for section, _ in found)


def test_entries_that_are_wrong_are_found(table, folder, real_dump) -> None:
    """Another page, beyond memory, twice, in a group that is not its own."""
    data, rows = table
    with phypan.open(real_dump("le-hash8").path) as dump:
        spaces = dump.spaces
        pages = [page for page in spaces.hash_table.pages(spaces.scheme) if page.context == 0]
        regions = [(spaces.era.region_of(page.address).name, page) for page in pages]
        linear = [page.entry for name, page in regions if name == "linear"]

    def change(entry, first: int, second: int) -> None:
        ENTRY.pack_into(data, entry.index * 16, first, second)

    stale, outside, moved, double = linear[10], linear[20], linear[30], linear[40]
    change(stale, stale.first, stale.second ^ 0x10000)
    change(outside, outside.first, outside.second | 1 << 40)
    place = _free(data, moved.index // 8 ^ 1 << 12)
    ENTRY.pack_into(data, place * 16, moved.first, moved.second)
    change(moved, 0, 0)
    second = _free(data, double.index // 8)
    ENTRY.pack_into(data, second * 16, double.first, double.second)
    found = Counter((row.item, row.index) for row in rows(folder) if row.section == "audit")
    later = max(double.index, second)
    assert found == {
        ("page tables", stale.index): 1,
        ("page tables", outside.index): 1,
        ("outside", outside.index): 1,
        ("misplaced", place): 1,
        ("duplicate", later): 1,
    }


def _free(data: bytearray, group: int) -> int:
    """The index of the first free entry of a group."""
    return next(n for n in range(group * 8, group * 8 + 8) if not data[n * 16 + 7] & 1)


def test_no_more_findings_than_wanted(table, folder, real_dump) -> None:
    data, _ = table
    count = 0
    for at in range(0, len(data), 16):
        first, second = ENTRY.unpack_from(data, at)
        if first & 0x11 == 0x11 and count < 20:
            ENTRY.pack_into(data, at, first, second | 1 << 41)
            count += 1
    (folder / "changed").write_bytes(data)
    with phypan.open(real_dump("le-hash8").path, hpt=folder / "changed") as dump:
        rows = [r for r in phypan.run(dump, "hpt", findings=5) if r.section == "audit"]
    assert len(rows) == 6
    assert rows[-1].item == "more"
    assert rows[-1].count >= 15


def test_without_an_image_it_is_refused(real_dump) -> None:
    with (
        phypan.open(real_dump("le-radix10").path) as dump,
        pytest.raises(phypan.Unsupported, match="hpt needs hpt"),
    ):
        phypan.run(dump, "hpt")
