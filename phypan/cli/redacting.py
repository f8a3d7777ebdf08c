"""The command that prepares a dump for being given away: redact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli.shared import PATH, progress_bar, render_option, report, source_options

NOT_ALL = (
    "what no rule knows is still in it, and so are registers: look at it before you give it away"
)


@click.command()
@source_options
@click.argument("target", type=PATH)
@click.option(
    "-d",
    "dump_level",
    metavar="LEVEL",
    type=click.IntRange(0, 31),
    default=30,
    show_default=True,
    help="Kinds of pages to leave out, as in `phypan convert`.",
)
@click.option(
    "--rule",
    "rules",
    metavar="NAME",
    multiple=True,
    help="Look for these secrets only: private-key, password, ...; a plugin may add others.",
)
@click.option("--format", "format_name", default="kdump", show_default=True, help="kdump, elf, ...")
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
@click.option("--report", "report_file", type=PATH, metavar="FILE",
              help="Write what was left out here too, as JSON.")  # fmt: skip
@render_option
def redact(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    target: Path,
    dump_level: int,
    rules: tuple[str, ...],
    format_name: str,
    force: bool,
    report_file: Path | None,
    render: str,
    **keys: Any,
) -> None:
    """Write SOURCE to TARGET without users' pages, page cache, and pages with secrets in them.

    Says what was left out and where. It does not claim that nothing is left.
    """
    with phypan.open(source, *others, regions=regions, source=source_name, hpt=hpt, **keys) as dump:
        with progress_bar() as progress:
            rows = phypan.redact(
                dump, target, dump_level=dump_level, rules=rules, format=format_name, force=force,
                progress=progress,
            )  # fmt: skip
        report(dump)
        phypan.render(rows, dump, renderer=render)
        if report_file is not None:
            text = json.dumps([vars(row) for row in rows], indent=1)
            report_file.write_text(text + "\n")
    click.echo(f"phypan: {NOT_ALL}", err=True)
