"""maps: regions, sizes, protection, what may be written and executed; of kernel and processes."""

from __future__ import annotations

from itertools import pairwise

import phypan
from tests.real import kernel as real_kernel


def test_the_kernels_ranges_are_in_order_and_whole(real) -> None:
    with phypan.open(real.path) as dump:
        rows = list(phypan.run(dump, "maps"))
        apart = list(phypan.run(dump, "maps", physical=True))
        assert all(a.last < b.first for a, b in pairwise(rows))
        assert all(row.last - row.first + 1 == row.size for row in rows)
        assert sum(row.size for row in rows) == sum(row.size for row in apart)
        assert {row.region for row in rows} == {"linear", "vmalloc", "io", "vmemmap"}
        assert sum(row.size for row in rows if row.region == "linear") == dump.memory.end
        for row in apart:
            assert dump.spaces["kernel"].physical(row.first) == row.physical
        assert all("uncached" in row.protection for row in rows if row.region == "io")


def test_what_is_writable_and_executable_is_found(real) -> None:
    """Radix kernels with CONFIG_STRICT_KERNEL_RWX have none of it; this hashed one maps so."""
    with phypan.open(real.path) as dump:
        rows = list(phypan.run(dump, "maps"))
        text = dump.vmcoreinfo.symbol("_stext")
    both = [row for row in rows if row.finding == "writable and executable"]
    assert [row.protection for row in both] == ["rwx"] * len(both)
    (of_text,) = [row for row in rows if row.first <= text <= row.last]
    assert "x" in of_text.protection
    assert both == ([of_text] if "w" in of_text.protection else [])


def test_a_process_has_the_ranges_that_the_guest_printed(real) -> None:
    for pid, vmas in real_kernel.told_maps(real).items():
        with phypan.open(real.path) as dump:
            rows = list(phypan.run(dump, "maps", pid=pid))
        assert len(rows) > 3
        for row in rows:
            (vma,) = [v for v in vmas if v.start <= row.first < v.end]
            assert row.last < vma.end
            assert ("x" in row.protection) == (vma.flags[2] == "x")
            assert row.protection.endswith("user")
