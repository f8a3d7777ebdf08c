"""CSV (RFC 4180), for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any, TextIO

from phypan import Column, Dump, Renderer, Rows, hookimpl, printable

_FORMULA = ("=", "+", "-", "@")  # with what a spreadsheet takes a text for a formula


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """A line of names, and one for each row. Addresses and masks are 0x..., absent is empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(column.name for column in rows.columns)
    for row in rows:
        writer.writerow(_cells(rows.columns, row))


def _cells(columns: tuple[Column, ...], row: Any) -> Iterator[Any]:
    for column in columns:
        base = column.show.base if column.show else 10
        yield _cell(getattr(row, column.name), base)


def _cell(value: Any, base: int) -> Any:
    if value is None:
        return ""
    if isinstance(value, tuple | list | frozenset | set):
        return " ".join(str(_cell(item, base)) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:#x}" if base == 16 else value
    if isinstance(value, float):
        return value
    text = printable(value.hex() if isinstance(value, bytes) else str(value))
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, bytes) else text


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """CSV."""
    return [Renderer("csv", "comma-separated values", render)]
