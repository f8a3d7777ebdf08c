"""Commands that let a person go on alone: shell, drgn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli.shared import PATH, kernel_options, report, source_options


@click.command()
@source_options
@kernel_options
@click.argument("vmlinux", type=PATH, required=False)
@click.option("-c", "-e", "--command", metavar="CODE", help="Run CODE instead of a session.")
def shell(
    source: Path,
    others: tuple[Path, ...],
    source_name: str | None,
    vmlinux: Path | None,
    command: str | None,
    symbols: tuple[Path, ...],
    **options: Any,
) -> int:
    """Python on SOURCE: `dump`, `prog` and drgn's helpers are at hand.

    IPython, where it is installed. What comes through a pipe is run as a script. VMLINUX is the
    kernel's debuginfo, as with -s.
    """
    from phypan.interactive import shell as session

    files = (*([vmlinux] if vmlinux else ()), *symbols)
    with phypan.open(source, *others, source=source_name, symbols=files, **options) as dump:
        code = session.run(dump, command)
        report(dump)
    return code


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="`phypan drgn SOURCE --help` shows drgn's own.",
)
@source_options
@kernel_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def drgn(
    source: Path,
    others: tuple[Path, ...],
    source_name: str | None,
    arguments: tuple[str, ...],
    **options: Any,
) -> None:
    """Run drgn on SOURCE with its own ARGUMENTS: -e CODE, a script, nothing for a session.

    Options of phypan's stand before SOURCE. Symbols and types of the dump serve where no debuginfo
    is given, with -s before SOURCE or as drgn's own option behind it.
    """
    from phypan.interactive import drgn_command

    with phypan.open(source, *others, source=source_name, **options) as dump:
        drgn_command.run(dump, arguments)
