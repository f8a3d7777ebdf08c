"""Markdown: a table to be put into an issue or a report."""

from __future__ import annotations

import re
from typing import TextIO

from phypan import Dump, Renderer, Rows, cell, hookimpl

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """A table of GitHub's kind; what a dump holds is text in it, whatever it looks like."""
    columns = rows.columns
    line = " | ".join(column.name.replace("_", " ") for column in columns)
    rule = " | ".join("--:" if column.show is not None else "---" for column in columns)
    file.write(f"| {line} |\n| {rule} |\n")
    for row in rows:
        texts = (cell(getattr(row, column.name), column.show) for column in columns)
        file.write("| " + " | ".join(_SPECIAL.sub(r"\\\1", text) for text in texts) + " |\n")


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """Markdown."""
    return [Renderer("markdown", "a Markdown table", render)]
