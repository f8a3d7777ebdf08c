"""JSON: one document, of a versioned schema, for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any, TextIO

from phypan import Dump, Renderer, Rows, hookimpl

SCHEMA = 1


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """{"schema", "analysis", "source", "rows": [...], "problems": [...]}, written row by row.

    A number that is an address or a mask has a twin NAME_hex beside it: readers that keep numbers
    as doubles lose digits above 2^53. What is absent is null.
    """
    head = {"schema": SCHEMA, "analysis": rows.name, "source": dump.source}
    file.write(json.dumps(head)[:-1] + ', "rows": [')
    for index, row in enumerate(rows):
        file.write(",\n " if index else "\n ")
        file.write(json.dumps(dict(_fields(rows, row))))
    problems = [dataclasses.asdict(problem) for problem in dump.problems]
    file.write('\n], "problems": ' + json.dumps(problems) + "}\n")


def _fields(rows: Rows, row: Any) -> Iterator[tuple[str, Any]]:
    for column in rows.columns:
        value = getattr(row, column.name)
        yield column.name, _plain(value)
        if column.show is not None and column.show.base == 16 and value is not None:
            yield f"{column.name}_hex", f"{value:#x}"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list | frozenset | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no such numbers
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """JSON."""
    return [Renderer("json", "one JSON document", render)]
