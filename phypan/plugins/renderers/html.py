"""HTML: one page that needs nothing else, for a report."""

from __future__ import annotations

from html import escape
from typing import TextIO

from phypan import Dump, Renderer, Rows, cell, hookimpl, printable

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; }
table { border-collapse: collapse; font-family: ui-monospace, monospace; font-size: 13px; }
th { text-align: left; border-bottom: 2px solid; position: sticky; top: 0; background: Canvas; }
th, td { padding: .15em .8em .15em 0; vertical-align: top; white-space: pre-wrap; }
td.number { text-align: right; }
tr:nth-child(even) { background: color-mix(in srgb, CanvasText 6%, Canvas); }
:root { color-scheme: light dark; }
"""


def render(rows: Rows, dump: Dump, file: TextIO) -> None:
    """A page with the rows and the problems. It runs no script and loads nothing."""
    title = escape(printable(f"{rows.name}: {dump.source}"))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    file.write(
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n<h1>{title}</h1>\n<table>\n<tr>"
    )
    for column in rows.columns:
        file.write(f"<th>{escape(column.name.replace('_', ' '))}")
    file.write("\n")
    for row in rows:
        file.write("<tr>")
        for column in rows.columns:
            kind = ' class="number"' if column.show is not None else ""
            file.write(f"<td{kind}>{escape(cell(getattr(row, column.name), column.show))}")
        file.write("\n")
    file.write("</table>\n")
    if dump.problems:
        file.write("<h2>Problems</h2>\n<ul>\n")
        for problem in dump.problems:
            file.write(f"<li>{escape(cell(str(problem), None))}\n")
        file.write("</ul>\n")
    file.write("</html>\n")


@hookimpl
def phypan_renderers() -> list[Renderer]:
    """HTML."""
    return [Renderer("html", "an HTML page", render)]
