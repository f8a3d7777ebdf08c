"""JSON lines: one document a row, for programs that read while the analysis still runs."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from phypan import Dump, Renderer, Rows, hookimpl

SCHEMA = 1  # that of the JSON renderer


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """{"schema", "analysis", ...fields} for each row; then {"schema", "analysis", "problem"}."""
    head = {"schema": SCHEMA, "analysis": rows.name}
    for row in rows:
        file.write(json.dumps({**head, **dict(rows.fields(row))}) + "\n")
    for problem in dump.problems:
        file.write(json.dumps({**head, "problem": dataclasses.asdict(problem)}) + "\n")


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """JSON lines."""
    return [Renderer("jsonl", "JSON, a row a line", render)]
