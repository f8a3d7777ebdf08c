"""JSON: one document, of a versioned schema, for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from phypan import Dump, Renderer, Rows, hookimpl

SCHEMA = 1


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """{"schema", "analysis", "source", "rows": [...], "problems": [...]}, written row by row.

    Fields are those of Rows.fields: NAME_hex beside addresses and masks, null for what is absent.
    """
    head = {"schema": SCHEMA, "analysis": rows.name, "source": dump.source}
    file.write(json.dumps(head)[:-1] + ', "rows": [')
    for index, row in enumerate(rows):
        file.write(",\n " if index else "\n ")
        file.write(json.dumps(dict(rows.fields(row))))
    problems = [dataclasses.asdict(problem) for problem in dump.problems]
    file.write('\n], "problems": ' + json.dumps(problems) + "}\n")


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """JSON."""
    return [Renderer("json", "one JSON document", render)]
