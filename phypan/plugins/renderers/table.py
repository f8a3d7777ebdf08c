"""The table for people: aligned columns, no more."""

from __future__ import annotations

from typing import Any, Literal, TextIO

from phypan import Dump, Renderer, Rows, Show, hookimpl, printable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """A table as wide as it needs to be; on a terminal it is fitted, and headings stand out."""
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


def cell(value: Any, show: Show | None) -> str:
    """The text of a value; control characters, which a dump may hold, are escaped."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and show is not None:
        return number(value, show)
    if isinstance(value, tuple | list | frozenset | set):
        return ", ".join(cell(item, show) for item in value)
    return printable(str(value))


def number(value: int, show: Show) -> str:
    """The text of a number as its column wants it: hexadecimal without 0x, bytes in their unit."""
    if show.base == 16:
        return f"{value:0{show.width}x}" if value >= 0 else f"-{-value:x}"
    if show.unit == "B" and value >= 1024:
        scaled, index = float(value), 0
        while scaled >= 1024 and index < len(_UNITS) - 1:
            scaled, index = scaled / 1024, index + 1
        return f"{scaled:.4g} {_UNITS[index]}"
    return f"{value} {show.unit}".rstrip()


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """The table."""
    return [Renderer("table", "a table for people", render)]
