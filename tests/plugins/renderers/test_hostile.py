"""What a dump holds stays text, in every format, whatever it looks like."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

import phypan
from phypan.dump import Dump
from phypan.errors import Problem
from phypan.memory import Memory
from phypan.plugins.renderers import csv as as_csv
from phypan.plugins.renderers import html as as_html
from phypan.plugins.renderers import jsonl as as_jsonl
from phypan.plugins.renderers import markdown as as_markdown
from phypan.rows import Address, Hex, Rows


@dataclass(frozen=True)
class Row:
    name: str
    at: Address
    mask: Hex | None
    many: tuple[str, ...] = ()


HOSTILE = [
    "<script>alert(1)</script>", "</td></tr></table>", "<!--", "]]>", "&lt;b&gt;", "\"'`",
    "a|b", "| --- |", "[x](http://y)", "![x](http://y)", "**b** _i_ ~~s~~ `c`", "\\|", "\\",
    "a,b", 'a"b', "a\nb\r\nc", "=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "\t=1", "\r=1",
    "\x1b[31m", "\x00", "\u202e", "\udc80", "# head", "- item", "1. one", "http://example.org",
]  # fmt: skip
values = st.text(max_size=30) | st.sampled_from(HOSTILE) | st.lists(
    st.sampled_from(HOSTILE), max_size=3).map("".join)  # fmt: skip
rows = st.lists(
    st.builds(Row, values, st.integers(0, (1 << 64) - 1), st.none() | st.integers(0, 99),
              st.lists(values, max_size=3).map(tuple)), max_size=4)  # fmt: skip


def rendered(renderer, given_rows, source: str = "dump", problems=()) -> str:
    out = io.StringIO()
    dump = Dump(source, Memory([]), problems=list(problems))
    renderer.render(Rows("test", Row, given_rows), dump, out)
    return out.getvalue()


def safe(text: str) -> None:
    """Nothing in it moves a cursor, and it can be written as UTF-8."""
    assert all(c.isprintable() or c == "\n" for c in text)
    text.encode()


# --- CSV ----------------------------------------------------------------------------------------


@given(rows)
def test_csv_has_a_line_for_each_row_and_a_cell_for_each_value(given_rows) -> None:
    text = rendered(as_csv, given_rows)
    safe(text)
    assert text.count("\n") == len(given_rows) + 1
    head, *lines = csv.reader(io.StringIO(text))
    assert head == ["name", "at", "mask", "many"]
    for row, cells in zip(given_rows, lines, strict=True):
        name, at, mask, _ = cells
        assert name.removeprefix("'") == phypan.printable(row.name).removeprefix("'")
        assert int(at, 16) == row.at
        assert mask == ("" if row.mask is None else f"{row.mask:#x}")


@given(rows)
def test_no_cell_of_csv_is_a_formula(given_rows) -> None:
    for cells in csv.reader(io.StringIO(rendered(as_csv, given_rows))):
        for cell in cells:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


# --- HTML ---------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page, and the text of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "li"):
            self.cells.append("")
        elif tag not in ("tr", "table", "ul"):
            self.cells = self.cells or []

    def handle_data(self, data) -> None:
        if self.cells:
            self.cells[-1] += data

    def handle_comment(self, data) -> None:
        raise AssertionError(f"a comment: {data}")


@given(rows, values)
def test_html_has_the_tags_of_the_renderer_and_no_others(given_rows, value) -> None:
    problems = [Problem(value, value, value)]
    text = rendered(as_html, given_rows, value, problems)
    safe(text)
    page = Page(text)
    ours = {"html", "meta", "title", "style", "h1", "h2", "table", "tr", "th", "td", "ul", "li"}
    assert page.tags <= ours
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "class"}
    assert len(page.cells) == 4 * len(given_rows) + 1
    names = [cell.rstrip("\n") for cell in page.cells[:-1:4]]
    assert names == [phypan.printable(row.name) for row in given_rows]


# --- Markdown -----------------------------------------------------------------------------------


@given(rows)
def test_markdown_has_a_line_for_each_row_and_a_cell_for_each_value(given_rows) -> None:
    text = rendered(as_markdown, given_rows)
    safe(text)
    lines = text.splitlines()
    assert len(lines) == len(given_rows) + 2
    for line, row in zip(lines[2:], given_rows, strict=True):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
        assert len(cells) == 4 + 2
        assert cells[2].strip() == f"{row.at:016x}"
        # every sign that means something in Markdown has a backslash before it
        bare = re.sub(r"\\[\\`*_\[\]<>|~&]", "", " ".join(cells[1:-1]))
        assert not set(bare) & set("\\`*_[]<>|~&")


# --- JSON lines ---------------------------------------------------------------------------------


@given(rows, values)
def test_jsonl_has_a_document_on_each_line(given_rows, value) -> None:
    text = rendered(as_jsonl, given_rows, problems=[Problem(value, "where", "meaning")])
    lines = text.split("\n")
    assert lines.pop() == ""
    safe(text)
    documents = [json.loads(line) for line in lines]
    assert {(d["schema"], d["analysis"]) for d in documents} == {(1, "test")}
    problem = documents.pop()["problem"]
    assert problem == {"what": value, "where": "where", "meaning": "meaning"}
    for row, document in zip(given_rows, documents, strict=True):
        assert document["name"] == row.name
        assert (document["at"], document["at_hex"]) == (row.at, f"{row.at:#x}")
        assert document["many"] == list(row.many)
        assert (document["mask"], document["mask_hex"]) == (
            row.mask, None if row.mask is None else f"{row.mask:#x}",
        )  # fmt: skip


# --- through the command line -------------------------------------------------------------------


@pytest.mark.parametrize("renderer", ["table", "json", "jsonl", "csv", "markdown", "html"])
def test_every_renderer_is_there_by_its_name(renderer) -> None:
    out = io.StringIO()
    phypan.render(
        Rows("test", Row, [Row(text, 1, None) for text in HOSTILE]),
        Dump("dump", Memory([])),
        renderer=renderer,
        file=out,
    )
    safe(out.getvalue())
