"""vtop: each level of a real kernel's tables, as crash prints them; other spaces; processes."""

from __future__ import annotations

import re

import pytest

import phypan
from tests.real import kernel as real_kernel

PAGE_OFFSET = 0xC000000000000000


def test_each_level_is_a_row_as_crash_prints_it(real_dump, crash, vmcores) -> None:
    for name in ("le-hash8", "le-radix10"):
        real = real_dump(name)
        with phypan.open(real.path) as dump:
            area = next(m for m in dump.spaces["kernel"].mappings() if m.first >> 48 == 0xC008)
            wanted = area.first + 0x18
            rows = list(phypan.run(dump, "vtop", addresses=(wanted,)))
        said = crash(real, vmcores(real).ours, f"vtop {wanted:x}")[f"vtop {wanted:x}"]
        assert re.search(rf"^{wanted:x}  {rows[-1].physical:x}\s*$", said, re.MULTILINE)
        assert [row.level for row in rows] == ["PGD", "PUD", "PMD", "PTE"]
        for row in rows:
            assert f"{PAGE_OFFSET + row.entry_at:x} => {row.entry:x}" in said
        assert rows[-1].page_size == 65536
        assert (rows[-1].protection, rows[-1].state) == ("rw-", "present")
        assert all(row.physical is None for row in rows[:-1])


def test_what_maps_nothing_says_why(real_dump) -> None:
    with phypan.open(real_dump("le-hash8").path) as dump:
        unmapped, outside = 0xC008000000FF0000, 0xC00E000000000000
        rows = list(phypan.run(dump, "vtop", addresses=(unmapped, outside)))
    assert [row.virtual for row in rows] == [unmapped] * 4 + [outside]
    assert re.match(r"not mapped: the PTE entry at physical address 0x\w+ is 0x0$", rows[3].state)
    assert (rows[4].level, rows[4].state) == ("-", "outside of the address space")
    assert all(row.physical is None for row in rows)


def test_the_hashed_page_table_shows_its_entry(real_dump) -> None:
    with phypan.open(real_dump("le-hash8").path) as dump:
        at = PAGE_OFFSET + 0x1234
        first, second = phypan.run(dump, "vtop", addresses=(at,), space="hpt")
        assert re.match(r"HPTE 0x\w+, primary group$", first.level)
        assert first.entry_at % 16 == 0
        assert (second.physical, second.entry_at) == (0x1234, first.entry_at + 8)
        table = (real_dump("le-hash8").path / "hpt").read_bytes()
        assert table[first.entry_at : first.entry_at + 16] == first.entry.to_bytes(
            8, "big"
        ) + second.entry.to_bytes(8, "big")


def test_addresses_of_a_process_by_its_pid(real, phypan_command) -> None:
    pid = next(iter(real_kernel.told_maps(real)))
    done = phypan_command("vtop", real.path, "0x10000000", "--pid", pid, "-r", "csv")
    assert done.code == 0, done.err
    last = done.out.strip().split("\n")[-1]
    assert last.endswith("present")
    assert "user" in last


def test_a_space_that_the_dump_has_not_is_refused(real_dump) -> None:
    with phypan.open(real_dump("le-radix10").path) as dump:
        with pytest.raises(phypan.Unsupported, match="no address space 'hpt'") as caught:
            list(phypan.run(dump, "vtop", addresses=(0,), space="hpt"))
        assert caught.value.hint == "this dump has: linear, kernel, physical"
