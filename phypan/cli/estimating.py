"""The command that tells what a dump would take: estimate."""

from __future__ import annotations

from pathlib import Path

import click

import phypan
from phypan.cli.shared import PATH, render_option, report


@click.command()
@click.argument("target", type=PATH)
@click.option(
    "--root",
    default="/",
    show_default=True,
    type=PATH,
    help="The system in which the dump waits.",
)
@click.option("--from", "source", metavar="FILE", type=PATH, help="A dump in a file instead.")
@click.option(
    "--compress",
    type=click.Choice(("zlib", "lzo", "snappy", "zstd", "none")),
    default="zlib",
    show_default=True,
    help="How pages of a compressed dump are compressed.",
)
@render_option
def estimate(target: Path, root: Path, source: Path | None, compress: str, render: str) -> None:
    """Tell the space and time that the dump takes at each dump level, and what fits at TARGET.

    A sample of the pages is compressed; nothing is written.
    """
    place, kind = (root, "live") if source is None else (source, None)
    with phypan.open(place, source=kind) as dump:
        rows = phypan.estimate_levels(dump, target, compress=compress)
        phypan.render(rows, dump, renderer=render)
        report(dump)
