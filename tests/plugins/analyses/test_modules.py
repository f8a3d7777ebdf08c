"""modules: what the guest's /proc/modules said."""

from __future__ import annotations

import re

import pytest

import phypan
from phypan.linux import modules

LINE = re.compile(r"(\S+) (\d+) (-?\d+) (\S+) (\w+) (0x[0-9a-f]+)(?: \((\w+)\))?")


def said_of(dump: phypan.Dump, truth_of) -> list[re.Match]:
    """The lines of /proc/modules; the test ends here where the guest printed none."""
    if dump.types is None:
        pytest.skip("this kernel has no types")
    lines = truth_of(dump).section("modules")
    if not lines:
        pytest.skip("the guest printed no modules")
    found = [LINE.fullmatch(line.strip()) for line in lines]
    assert all(found)
    return [match for match in found if match]


def test_modules_are_those_of_the_guest(kernel, truth_of) -> None:
    said = said_of(kernel, truth_of)
    ours = list(phypan.run(kernel, "modules"))
    assert [row.name for row in ours] == [match[1] for match in said]
    for row, match in zip(ours, said, strict=True):
        assert (row.size, row.base) == (int(match[2]), int(match[6], 16))
        assert row.users == tuple(user for user in match[4].split(",") if user not in ("", "-"))
        assert (row.state, row.taints) == (match[5].lower(), match[7] or "")
        if row.name != "phypan_crash":  # which is in use while it crashes
            assert row.used == int(match[3])


def test_symbols_of_modules_lie_in_them(kernel, truth_of) -> None:
    names = {match[1] for match in said_of(kernel, truth_of)}
    tables = {table.module: table for table in modules.tables(kernel)}
    assert set(tables) == names
    for row in phypan.run(kernel, "modules"):
        table = tables[row.name]
        code = [symbol for symbol in map(table.symbol, range(len(table))) if symbol.is_text]
        assert code
        inside = [symbol for symbol in code if row.base <= symbol.address < row.base + row.size]
        assert len(inside) > 0.6 * len(code), "but for what was freed after loading"
        found = kernel.symbols.at(inside[0].address)
        assert (found.module, found.address) == (row.name, inside[0].address)


def test_a_kernel_without_modules_has_none(opened) -> None:
    assert list(phypan.run(opened, "modules")) == []
    assert list(modules.tables(opened)) == []
    assert not any("module" in problem.where for problem in opened.problems)
