"""Rows: what an analysis yields, and what its columns mean.

A row is a frozen dataclass. The annotation of a field tells renderers how to show it, and its name
is the name of the column; nothing else is known of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from phypan.cells import hexadecimal, plain


@dataclass(frozen=True)
class Show:
    """How to show a number: its base, its width in digits, its unit."""

    base: int = 10
    width: int = 0
    unit: str = ""


Address = Annotated[int, Show(base=16, width=16)]  # physical or effective; the field says which
Hex = Annotated[int, Show(base=16)]  # flags, masks, small offsets
Bytes = Annotated[int, Show(unit="B")]
Pages = Annotated[int, Show(unit="pages")]  # of the dump's page size


@dataclass(frozen=True)
class Column:
    """One column: the field's name, and how its numbers are shown (None: it holds no numbers)."""

    name: str
    show: Show | None


@cache
def columns(row: type) -> tuple[Column, ...]:
    """The columns of a row type, in the order of its fields."""
    hints = get_type_hints(row, include_extras=True)
    return tuple(Column(f.name, _show(hints[f.name])) for f in dataclasses.fields(row))


def _show(hint: object) -> Show | None:
    for part in (hint, *get_args(hint)):
        for extra in getattr(part, "__metadata__", ()):
            if isinstance(extra, Show):
                return extra
    parts = {hint, *get_args(hint)}
    return Show() if int in parts or float in parts else None


Text = Callable[[Iterable[Any]], Iterable[str]]


class Rows(Iterable[Any]):
    """The rows of one run of an analysis, to be gone through once.

    name     of the analysis
    row      the dataclass that every row is
    columns  those that are to be shown, of the row's
    text     gives the lines that people are used to see for such rows; None: a table
    """

    def __init__(
        self,
        name: str,
        row: type,
        rows: Iterable[Any],
        *,
        chosen: tuple[Column, ...] | None = None,
        text: Text | None = None,
    ) -> None:
        self.name, self.row, self.text, self._rows = name, row, text, rows
        self.columns = columns(row) if chosen is None else chosen

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def fields(self, row: Any) -> Iterator[tuple[str, Any]]:
        """(name, value) of each column, in values that JSON has; what is absent is None.

        A number that is an address or a mask has a twin NAME_hex behind it: readers that keep
        numbers as doubles lose digits above 2^53.
        """
        for column in self.columns:
            value = getattr(row, column.name)
            yield column.name, plain(value)
            if column.show is not None and column.show.base == 16:
                yield f"{column.name}_hex", hexadecimal(value)
