"""Symbols: by address and by name, as a search through all of them finds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phypan.linux.symbols import Symbols, Table

START = 0xC000000000000000
tables = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["Tone", "ttwo", "T.one", "Dthree", "done"])),
    min_size=1,
    max_size=20,
).map(sorted)


@given(tables, st.integers(-2, 500), st.none() | st.integers(0, 60))
def test_an_address_is_in_the_symbol_that_begins_before_it(entries, at, more) -> None:
    last = entries[-1][0]
    end = last + 1 if more is None else last + more
    given_end = None if more is None else START + end
    table = Table([START + a for a, _ in entries], [name for _, name in entries], given_end)
    found = table.at(START + at)
    before = [n for n, (address, _) in enumerate(entries) if address <= at]
    if not before or at >= end:
        assert found is None
        return
    start = entries[before[-1]][0]
    first = next(name for address, name in entries if address == start)
    behind = [address for address, _ in entries if address > start]
    assert found.address == START + start
    assert found.name == first[1:].lstrip(".")
    assert found.kind == first[0]
    assert found.size == (behind[0] if behind else end) - start


@given(tables)
def test_all_of_a_name_are_found_code_first(entries) -> None:
    symbols = Symbols([Table([START + a for a, _ in entries], [name for _, name in entries])])
    assert len(list(symbols)) == len(symbols) == len(entries)
    for name in ("one", "two", "three", "nothing"):
        found = symbols.find(name)
        expected = [a for a, text in entries if text[1:].lstrip(".") == name]
        assert sorted(s.address - START for s in found) == expected
        dotted = sum(text == "T." + name for _, text in entries)
        assert all(s.is_text for s in found[:dotted])
        assert symbols.address(name) == (found[0].address if found else None)


def test_modules_are_asked_once_and_only_when_the_kernel_has_no_answer() -> None:
    asked = []

    def modules():
        asked.append(1)
        symbols.at(1)  # what reads modules may ask for symbols itself
        return [Table([START + 0x1000], ["tinit"], START + 0x1010, "driver"), Table([], [])]

    symbols = Symbols([Table([START], ["Tstart"], START + 0x100)], "kallsyms", modules)
    assert symbols.at(START + 4).name == "start"
    assert symbols.find("start")
    assert not asked
    assert symbols.at(START + 0x1004).module == "driver"
    assert symbols.describe(START + 0x1004) == "init+0x4/0x10 [driver]"
    assert symbols.find("init")[0].address == START + 0x1000
    assert symbols.at(5) is None
    assert asked == [1]


def test_modules_whose_code_and_data_lie_apart_do_not_claim_each_others_memory() -> None:
    def parts(start: int) -> list[tuple[int, int]]:
        return [
            (START + start, START + start + 0x100),
            (START + start + 0x800, START + start + 0x900),
        ]

    one = Table([START, START + 0x800], ["tone", "done_data"], START + 0x900, "one", parts(0))
    two = Table([START + 0x400, START + 0xC00], ["ttwo", "dtwo_data"], START + 0xD00, "two",
                parts(0x400))  # fmt: skip
    symbols = Symbols([one, two])
    assert symbols.describe(START + 0x404) == "two+0x4/0x100 [two]"
    assert symbols.describe(START + 0x804) == "one_data+0x4/0x100 [one]"
    assert symbols.describe(START + 4) == "one+0x4/0x100 [one]"
    for between in (0x100, 0x300, 0x500, 0xB00, 0xD00):
        assert symbols.at(START + between) is None


def test_a_return_address_behind_a_function_is_still_of_it() -> None:
    symbols = Symbols([Table([START, START + 0x10], ["tdies", "tnext"], START + 0x20)])
    assert symbols.at(START + 0x10).name == "next"
    assert symbols.caller(START + 0x10).name == "dies"


def test_no_symbols() -> None:
    symbols = Symbols()
    assert not symbols
    assert symbols.at(START) is None
    assert symbols.describe(START) is None
    assert list(symbols) == []
