"""symbol: names and addresses as the guest printed them, and as crash knows them."""

from __future__ import annotations

import re

import pytest

import phypan


def rows(dump: phypan.Dump, *names: str) -> list:
    return list(phypan.run(dump, "symbol", names=names))


def test_addresses_are_those_of_the_guest(kernel, truth_of) -> None:
    text = truth_of(kernel).block
    said = re.findall(r"^([0-9a-f]{16}) (\w) (\w+)(?:\t\[(\w+)\])?$", text, re.MULTILINE)
    assert len(said) >= 1  # Debian's kernel lists functions only
    for address, kind, name, module in said:
        found = [row for row in rows(kernel, name) if row.address == int(address, 16)]
        assert [(row.kind, row.module or "") for row in found] == [(kind, module)], name


def test_an_address_has_the_nearest_symbol(opened) -> None:
    row = rows(opened, "schedule")[0]  # the code; on big-endian kernels there is a descriptor too
    (behind,) = rows(opened, f"{row.address + 8:x}")
    assert (behind.name, behind.offset, behind.address) == ("schedule", 8, row.address)
    (word,) = rows(opened, "schedule+0x8")
    assert (word.name, word.offset) == ("schedule", 8)


def test_it_is_what_crash_knows(opened, real_of, crash_says) -> None:
    said = crash_says(real_of(opened), "sym schedule")
    address, kind, name = re.match(r"([0-9a-f]{16}) \((\w)\) \.?(\w+)", said).groups()
    # of a function of ELFv1 it shows the descriptor
    known = [(f"{row.address:016x}", row.kind, row.name) for row in rows(opened, "schedule")]
    assert (address, kind, name) in known


def test_a_name_of_several_symbols_has_all(opened) -> None:
    counts: dict[str, int] = {}
    for symbol in opened.symbols:
        counts[symbol.name] = counts.get(symbol.name, 0) + 1
    name = next(name for name, count in counts.items() if count == 2)
    assert len({row.address for row in rows(opened, name)}) == 2


def test_patterns(opened) -> None:
    names = {row.name for row in rows(opened, "linux_proc_*")}
    assert names == {s.name for s in opened.symbols if s.name.startswith("linux_proc_")}
    assert names


def test_functions_of_modules_are_known(kernel) -> None:
    if kernel.types is None or not any(r.name == "phypan_crash" for r in rows_of_modules(kernel)):
        pytest.skip("no module is loaded, or its symbols are lost without types")
    found = rows(kernel, "phypan_null")  # and its descriptor, on big-endian kernels
    assert {row.module for row in found} == {"phypan_crash"}


def rows_of_modules(dump: phypan.Dump) -> list:
    return list(phypan.run(dump, "modules"))


def test_what_is_no_symbol_is_said(real) -> None:
    with phypan.open(real.path) as dump:
        known = len(dump.problems)
        assert rows(dump, "no_such_symbol", "1234") == []
        said = [problem.what for problem in dump.problems[known:]]
        assert said == ["no symbol 'no_such_symbol'", "no symbol '1234'"]


def test_a_damaged_dump_is_not_searched_for_ever(real) -> None:
    with phypan.open(real.path) as dump:
        for asked in ("", "*" * 500 + "x", "[", "+", "-0x", "\udc80", "+0x8", "ffffffffffffffff"):
            rows(dump, asked)
