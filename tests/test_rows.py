"""Rows: what the annotation of a field says of its column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest

from phypan.rows import Address, Bytes, Column, Hex, Pages, Rows, Show, columns


@dataclass(frozen=True)
class Row:
    name: str
    number: int
    share: float
    at: Address
    maybe_at: Address | None
    flags: Hex
    size: Bytes
    pages: Pages | None
    numbers: tuple[int, ...]
    own: Annotated[int, Show(unit="s")]
    maybe: int | None
    text: str | None


def test_the_columns_are_the_fields_in_their_order() -> None:
    assert columns(Row) == (
        Column("name", None),
        Column("number", Show()),
        Column("share", Show()),
        Column("at", Show(base=16, width=16)),
        Column("maybe_at", Show(base=16, width=16)),
        Column("flags", Show(base=16)),
        Column("size", Show(unit="B")),
        Column("pages", Show(unit="pages")),
        Column("numbers", Show()),
        Column("own", Show(unit="s")),
        Column("maybe", Show()),
        Column("text", None),
    )


def test_rows_are_gone_through_once() -> None:
    rows = Rows("test", Row, iter([1, 2, 3]))
    assert (rows.name, rows.row) == ("test", Row)
    assert rows.columns == columns(Row)
    assert list(rows) == [1, 2, 3]
    assert list(rows) == []


def test_what_is_no_row_has_no_columns() -> None:
    with pytest.raises(TypeError):
        columns(int)
