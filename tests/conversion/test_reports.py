"""What is told of a dump level is what a conversion at that level makes."""

from __future__ import annotations

import pytest

import phypan
from tests.made_dumps import made
from tests.real_dumps import NAMES


def test_of_a_small_dump_the_sample_is_all_of_it(tmp_path) -> None:
    dump = made([1, 0, 2, 3, 1, 0, None, 2])
    rows = list(phypan.estimate_levels(dump, tmp_path / "vmcore"))
    assert [row.level for row in rows] == [0, 1, 3, 7, 15, 31]
    written = phypan.convert(dump, tmp_path / "out", format="kdump").written[0]
    for row in rows:
        assert row.elf == 7 * 4096
        assert abs(row.compressed - written.size) <= 4096 * 3
        assert row.fits == "ELF and compressed"


def test_where_it_would_go_must_be_there(tmp_path) -> None:
    with pytest.raises(phypan.InputError):
        phypan.estimate_levels(made([1]), tmp_path / "none" / "vmcore")


@pytest.mark.real
def test_of_a_real_dump_the_command_comes_close(
    real_dump, vmcores, tmp_path, phypan_command
) -> None:
    ours = vmcores(real_dump(NAMES[0])).ours
    done = phypan_command("estimate", tmp_path / "x", "--from", ours, "-r", "csv")
    assert done.code == 0, done.err
    rows = [line.split(",") for line in done.out.splitlines()]
    columns = dict(zip(*[rows[0], rows[-1]], strict=True))
    made_ = phypan.convert(ours, tmp_path / "out", format="kdump", dump_level=31).written[0]
    assert columns["level"] == "31"
    assert 0.7 < int(columns["compressed"]) / made_.size < 1.4
