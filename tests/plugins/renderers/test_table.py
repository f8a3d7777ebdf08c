"""The table: units, columns, and nothing in a dump that could move a cursor."""

from __future__ import annotations

import io
import os
import pty
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.dump import Dump
from phypan.memory import Memory
from phypan.plugins.renderers import table
from phypan.rows import Address, Bytes, Hex, Pages, Rows, Show

DUMP = Dump("test", Memory([]))


@dataclass(frozen=True)
class Row:
    name: str
    at: Address
    flags: Hex | None
    size: Bytes
    pages: Pages
    plain: int
    yes: bool
    many: tuple[int, ...]


def rendered(*rows: object, row: type = Row) -> list[str]:
    out = io.StringIO()
    table.render(Rows("test", row, rows), DUMP, out)
    return out.getvalue().splitlines()


def test_columns_are_aligned_and_numbers_have_base_and_unit() -> None:
    lines = rendered(
        Row("a", 0xC000000000000000, 0x10, 1536, 3, 7, True, (1, 2)),
        Row("longer", 0, None, 5, 0, -7, False, ()),
    )
    assert lines == [
        "NAME                  AT  FLAGS     SIZE    PAGES  PLAIN  YES  MANY",
        "a       c000000000000000     10  1.5 KiB  3 pages      7  yes  1, 2",
        "longer  0000000000000000      -      5 B  0 pages     -7   no",
    ] or lines == [line.rstrip() for line in lines]


def test_no_rows_are_headings_alone() -> None:
    assert rendered()[0].split() == ["NAME", "AT", "FLAGS", "SIZE", "PAGES", "PLAIN", "YES", "MANY"]
    assert len(rendered()) == 1


@pytest.mark.parametrize(
    ("value", "show", "text"),
    [
        (1023, Show(unit="B"), "1023 B"),
        (1024, Show(unit="B"), "1 KiB"),
        (1 << 20, Show(unit="B"), "1 MiB"),
        (1342177280, Show(unit="B"), "1.25 GiB"),
        (1 << 60, Show(unit="B"), "1024 PiB"),
        (255, Show(base=16), "ff"),
        (255, Show(base=16, width=8), "000000ff"),
        (-255, Show(base=16, width=8), "-ff"),
        (7, Show(), "7"),
    ],
)
def test_numbers(value, show, text) -> None:
    assert table.number(value, show) == text


@dataclass(frozen=True)
class Text:
    text: str


@given(st.text())
def test_nothing_that_moves_a_cursor_or_hides_comes_through(text) -> None:
    line = rendered(Text(text), row=Text)[1:]
    assert len(line) <= 1
    for shown in line:
        assert shown.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
        ("\u202eabc", "\\u202eabc"),
        ("\x9b2J", "\\x9b2J"),
        ("\udc80", "\\udc80"),
        ("[bold]not markup[/]", "[bold]not markup[/]"),
        ("日本", "日本"),
    ],
)
def test_what_is_escaped(text, shown) -> None:
    assert rendered(Text(text), row=Text)[1] == shown


def test_on_a_terminal_markup_in_a_dump_is_not_markup() -> None:
    master, slave = pty.openpty()
    with open(slave, "w") as terminal:
        rows = Rows("test", Text, [Text("[bold]x[/bold] :smile: [link=http://x]y[/link] \x1b[31m")])
        table.render(rows, DUMP, terminal)
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "[bold]x[/bold] :smile: [link=http://x]y[/link] \\x1b[31m" in shown


def test_it_is_the_default_of_the_api(capsys) -> None:
    phypan.render(Rows("test", Text, [Text("x")]), DUMP)
    assert capsys.readouterr().out == "TEXT\nx\n"
