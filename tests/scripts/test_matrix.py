"""The matrix is as large as it is said to be, and a cell that fails is seen."""

from __future__ import annotations

from collections import defaultdict

import cells
import checks
import get
import matrix
import pytest
import support
from cells import Cell
from support import Result

from phypan.platform.qemu.crashes import CRASHES

ALL = [cell for cell in cells.cells() if not cell.reason]


def test_names_are_unique() -> None:
    assert len({cell.name for cell in cells.cells()}) == len(list(cells.cells()))


def test_every_kind_of_crash_is_on_one_kernel() -> None:
    assert {cell.crash for cell in ALL if cell.kernel == "6.12-le64k"} == set(CRASHES)


def test_three_kinds_are_on_every_kernel_with_both_mmus() -> None:
    kinds = defaultdict(set)
    for cell in ALL:
        kinds[cell.kernel, cell.mmu].add(cell.crash)
    kernels = {"6.12-le64k", "6.12-le4k", "6.12-be64k", "debian-6.1", "debian-newest"}
    assert set(kinds) == {(kernel, mmu) for kernel in kernels for mmu in ("hash", "radix")}
    assert all(len(found) >= 3 for found in kinds.values())


def test_there_are_several_cpu_counts_and_every_way_to_preserve() -> None:
    assert len({cell.cpus for cell in ALL}) >= 2
    assert {cell.how for cell in ALL} == {"qemu", "model", "plain"}


def test_every_cell_is_made_of_pieces_that_there_are() -> None:
    names = {piece.name for piece in get.PIECES}
    for cell in ALL:
        assert {cell.kernel, f"{cell.kernel}-module", cell.busybox} <= names
    for piece in get.PIECES:
        assert set(piece.needs) <= names
        assert all(file.exists() for file in piece.inputs), piece.name


def test_patterns_choose_cells() -> None:
    chosen = matrix._chosen(["6.12-be64k-*-null", "debian-6.1-hash-sysrq-plain"])
    assert {cell.name for cell in chosen} == {
        "6.12-be64k-hash-null", "6.12-be64k-radix-null", "debian-6.1-hash-sysrq-plain",
    }  # fmt: skip
    with pytest.raises(SystemExit, match="no cell nonsense"):
        matrix._chosen(["nonsense"])


def _case(monkeypatch, **found: object) -> checks.Case:
    monkeypatch.setattr(checks, "CHECKS", found)
    return checks.Case(ALL[0], None, None, None, None)  # type: ignore[arg-type]


def test_what_a_check_says_is_told_apart(monkeypatch) -> None:
    def fine(case: checks.Case) -> str:
        return "all equal"

    def silent(case: checks.Case) -> str:
        raise checks.NotApplicable("no such thing here")

    def wrong(case: checks.Case) -> str:
        assert 1 == 2, "one is not two"
        return ""

    def broken(case: checks.Case) -> str:
        raise KeyError("x")

    case = _case(monkeypatch, fine=fine, silent=silent, wrong=wrong, broken=broken)
    assert [(name, how) for name, how, _ in checks.run(case)] == [
        ("fine", "ok"), ("silent", "-"), ("wrong", "failed"), ("broken", "failed"),
    ]  # fmt: skip
    words = {name: words for name, _, words in checks.run(case)}
    assert "one is not two" in words["wrong"]
    assert words["broken"] == "KeyError: 'x'"


def test_the_page_shows_what_failed_and_why(monkeypatch, tmp_path) -> None:
    from workshop import Workshop

    monkeypatch.setattr(support, "PAGE", tmp_path / "reference" / "support.md")
    good = Result(ALL[0], {"dump": ("ok", "")} | dict.fromkeys(checks.CHECKS, ("ok", "")))
    bad = Result(ALL[1], dict(good.outcomes) | {"memory": ("failed", "differs near 0x1000")})
    never = Result(
        Cell("6.12-le64k", "hash", "x", reason="cannot be"), {"dump": ("-", "cannot be")}
    )
    assert (good.failures, list(bad.failures)) == ({}, ["memory"])
    support.write(Workshop(get.PIECES, tmp_path), [good, bad, never])
    text = (tmp_path / "reference" / "support.md").read_text()
    assert "| FAILED 1 |" in text
    assert "\n1. differs near 0x1000\n" in text
    assert "\n2. cannot be" in text
    assert "FAILED" in support.text_table([good, bad, never]).splitlines()[2]
    for name in checks.CHECKS:
        assert f"| {name} |" in text


def test_a_dump_that_was_not_made_is_not_run_and_not_said_to_be_fine(monkeypatch, tmp_path) -> None:
    from workshop import Workshop

    monkeypatch.setenv("PHYPAN_CACHE", str(tmp_path))
    result = matrix.run(ALL[0], cached=True)
    assert result.outcomes == {"dump": (support.NOT_RUN, "not run: its dump was not made yet")}, (
        "nothing was booted"
    )
    monkeypatch.setattr(support, "PAGE", tmp_path / "support.md")
    support.write(Workshop(get.PIECES, tmp_path), [result])
    text = (tmp_path / "support.md").read_text()
    assert "0 of 1 cells were run: 0 checks are ok, 0 failed" in text
    assert "1 cells were not run" in text
    assert "| ok" not in text
    assert support.text_table([result]).count("\n") == 0
