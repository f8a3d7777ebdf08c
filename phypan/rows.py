"""Rows: what an analysis yields, and what its columns mean.

A row is a frozen dataclass. The annotation of a field tells renderers how to show it, and its name
is the name of the column; nothing else is known of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints


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


class Rows(Iterable[Any]):
    """The rows of one run of an analysis, to be gone through once.

    name  of the analysis
    row   the dataclass that every row is
    """

    def __init__(self, name: str, row: type, rows: Iterable[Any]) -> None:
        self.name, self.row, self._rows = name, row, rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of every row."""
        return columns(self.row)
