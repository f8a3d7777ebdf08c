"""The table for people: aligned columns, no more."""

from __future__ import annotations

from typing import Literal, TextIO

from phypan import Dump, Renderer, Rows, cell, hookimpl, printable


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """A table as wide as it needs to be; on a terminal it is fitted, and headings stand out.

    Rows that people are used to see as text are shown as that.
    """
    if rows.text is not None:
        for line in rows.text(rows):
            file.write(printable(line.replace("\t", " ")) + "\n")
        return
    columns = rows.columns
    heads = [column.name.upper().replace("_", " ") for column in columns]
    right = [column.show is not None for column in columns]
    cells = ([cell(getattr(row, column.name), column.show) for column in columns] for row in rows)
    (_fitted if file.isatty() else _plain)(heads, right, list(cells), file)


def _plain(heads: list[str], right: list[bool], cells: list[list[str]], file: TextIO) -> None:
    widths = [max(len(text) for text in column) for column in zip(heads, *cells, strict=True)]
    for row in [heads, *cells]:
        parts = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        )
        file.write("  ".join(parts).rstrip() + "\n")


def _fitted(heads: list[str], right: list[bool], cells: list[list[str]], file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for head, to_right in zip(heads, right, strict=True):
        justify: Literal["right", "left"] = "right" if to_right else "left"
        table.add_column(Text(head), justify=justify, overflow="fold")
    for row in cells:
        table.add_row(*(Text(text) for text in row))  # Text: markup in a dump is not markup
    Console(file=file, highlight=False, emoji=False).print(table)


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """The table."""
    return [Renderer("table", "a table for people", render)]
