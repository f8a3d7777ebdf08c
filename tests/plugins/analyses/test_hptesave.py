"""hptesave: entries written by hand from LoPAR, checked against the size of boot memory."""

from __future__ import annotations

import pytest

import phypan
from phypan.dump import Dump
from phypan.formats import hptesave
from phypan.formats.kernel_dump import KernelDump, Section
from phypan.memory import Memory

PAGE = 16 << 20
FIRST, SECOND = 0x4001FFFFFF000015, 0x190  # 16 MiB of the VRMA at 0, bolted, coherent


def entry(n: int, *, real: int | None = None, place: int | None = None) -> tuple[int, int, int]:
    """The entry of page `n` of the VRMA, by the formulae of the Power ISA, in a table of 64 MiB."""
    index = (0x7FFFF ^ n << 1 ^ 0x7FFFF) if place is None else place
    return index, FIRST | n << 8, SECOND | (PAGE * n if real is None else real)


def rows(*entries: tuple[int, int, int], boot: int) -> list:
    area = hptesave.read(hptesave.write(list(entries)))
    section = Section(0x0011, 0, boot, 1 << 30, boot)
    dump = Dump("t", Memory([]), kernel_dump=KernelDump((section,), 0xC000), hptesave=area)
    return list(phypan.run(dump, "hptesave"))


def test_a_whole_vrma_has_nothing_wrong() -> None:
    found = rows(entry(2), entry(0), entry(1), boot=3 * PAGE)
    assert [row.offset for row in found] == [0, PAGE, 2 * PAGE], "sorted"
    assert {row.finding for row in found} == {None}
    assert [(row.size, row.bolted, row.wimg) for row in found] == [(PAGE, True, "M")] * 3
    assert [row.real for row in found] == [row.offset for row in found]


def test_what_is_wrong_is_said() -> None:
    found = rows(
        entry(0), entry(0, place=9), entry(2, real=5 * PAGE), entry(4),
        (7, FIRST & ~1, SECOND), (8, 0x4000000000000115, SECOND), boot=4 * PAGE,
    )  # fmt: skip
    assert [(row.offset, row.finding) for row in found] == [
        (0, None),
        (0, "the offset is mapped twice"),
        (PAGE, "no entry maps it"),
        (2 * PAGE, "its real address is not its offset"),
        (3 * PAGE, "no entry maps it"),
        (4 * PAGE, "behind boot memory"),
        (None, "not valid"),
        (None, "not of the VRMA"),
    ]


def test_boot_memory_behind_the_last_entry_is_said() -> None:
    found = rows(entry(0), boot=3 * PAGE)
    assert [(row.offset, row.size, row.finding) for row in found] == [
        (0, PAGE, None), (PAGE, 2 * PAGE, "boot memory that no entry maps"),
    ]  # fmt: skip


def test_what_the_model_saves_covers_its_boot_memory(folder) -> None:
    phypan.simulate(folder / "crashed", kernel="2.6.32", memory="1G")
    with phypan.open(folder / "crashed") as dump:
        found = list(phypan.run(dump, "hptesave"))
        assert {row.finding for row in found} == {None}
        assert sum(row.size for row in found) == 256 << 20
        for row in found:
            assert dump.spaces["vrma"].physical(row.offset + 5) == row.offset + 5


def test_without_a_save_area_it_is_refused() -> None:
    with pytest.raises(phypan.Unsupported, match="hptesave needs hptesave"):
        phypan.run(Dump("t", Memory([])), "hptesave")
