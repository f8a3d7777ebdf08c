"""Commands that write dumps, and look at what was written: convert, join, verify, repair."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli.options import LateOptions, given, options_of
from phypan.cli.shared import (
    PATH,
    key_option,
    progress_bar,
    render_option,
    report,
    seal_option,
    source_options,
)


def _writer_options() -> list[click.Parameter]:
    """The options of all writers, but for those that --split sets."""
    found = options_of(*(writer.write for writer in phypan.writers().values()))
    return [option for option in found if option.name not in ("part", "parts")]


_LETTERS = {"c": "zlib", "l": "lzo", "p": "snappy", "z": "zstd"}


def letters(command: Callable[..., Any]) -> Callable[..., Any]:
    """makedumpfile's letters."""
    for letter, name in reversed(_LETTERS.items()):
        text = f"Compressed dump, pages compressed by {name}."
        command = click.option(f"-{letter}", "codec", flag_value=name, default=None, help=text)(
            command
        )
    for decorate in (
        click.option("-E", "elf", is_flag=True, help="ELF vmcore, also of a filtered dump."),
        click.option(
            "-d",
            "dump_level",
            metavar="LEVEL[,LEVEL...]",
            type=Levels(),
            default=(0,),
            help="Leave out: 1 zeros, 2 cache, 4 private cache, 8 user, 16 free pages, or a sum "
            "of these. Of several the next is tried when there is no room at one.",
        ),
    ):
        command = decorate(command)
    return command


def retry_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How often a place that does not answer is tried again."""
    wait = click.option(
        "--retry-wait", metavar="SECONDS", type=click.FloatRange(0), default=1.0,
        show_default=True, help="Before the first time; doubled for each one after it, "
        "up to a minute.",
    )  # fmt: skip
    often = click.option(
        "--retries", metavar="N", type=click.IntRange(0), default=8, show_default=True,
        help="Try again so often in a row when a place does not answer.",
    )  # fmt: skip
    return often(wait(command))


def say(line: str) -> None:
    """A line about what goes on, for people."""
    click.echo(f"phypan: {phypan.printable(line)}", err=True)


class Levels(click.ParamType):  # type: ignore[type-arg]
    """One or several dump levels."""

    name = "levels"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The levels in ascending order of what they leave out, as they were given."""
        try:
            return value if isinstance(value, tuple) else tuple(int(n) for n in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a dump level, or several", param, ctx)


@click.command(cls=LateOptions, late=_writer_options)
@source_options
@click.argument("target", required=False)
@click.option("--format", "format_name", metavar="NAME", help="elf, kdump, ...  [default: elf]")
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
@click.option("-F", "flattened", is_flag=True, help="Flattened, as for a pipe.")
@letters
@click.option("--split", metavar="N", type=click.IntRange(1, 1000), default=1,
              help="Write TARGET.1 to TARGET.N, each with a share of the pages.")  # fmt: skip
@seal_option
@retry_options
@click.option("--dry-run", is_flag=True, help="Only tell what would be written, by a sample.")
@click.option("--show-stats", is_flag=True, help="Tell what was left out and written.")
def convert(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    keys: tuple[Path, ...],
    target: str | None,
    dump_level: tuple[int, ...],
    split: int,
    seal_for: tuple[str, ...],
    flattened: bool,
    force: bool,
    retries: int,
    retry_wait: float,
    dry_run: bool,
    show_stats: bool,
    **options: Any,
) -> None:
    """Write SOURCE to TARGET in another format: for crash, drgn, gdb, libkdumpfile.

    With -c, -l, -p, -z or -d it is a compressed dump, else an ELF vmcore. TARGET may be -, for
    standard output, or an address as for `capture`: then it is flattened, and what breaks off is
    begun anew.
    """
    chosen = _chosen(**options)
    if target is None and not dry_run:
        raise click.UsageError("Missing argument 'TARGET'.")
    with phypan.open(
        source, *others, regions=regions, source=source_name, hpt=hpt, keys=keys
    ) as dump:
        if dry_run or target is None:
            rows = phypan.estimate(dump, dump_level=dump_level[0], **chosen)
            phypan.render(rows, dump)
            return
        with progress_bar() as progress:
            done = phypan.convert(
                dump, target, dump_level=dump_level, flattened=flattened, split=split,
                force=force, seal_for=seal_for, retries=retries, retry_wait=retry_wait,
                report=say, progress=progress, **chosen,
            )  # fmt: skip
        if show_stats:
            phypan.render(phypan.statistics(dump, done), dump, file=sys.stderr)
        report(dump)
    _check_complete(done)


def _chosen(
    format_name: str | None, codec: str | None, elf: bool, **options: Any
) -> dict[str, Any]:
    """The format and the writer's options: makedumpfile's letters mean a compressed dump."""
    options = given(options)
    if codec is not None:
        options["compress"] = codec
    if elf and codec is not None:
        raise click.UsageError("-E is an ELF vmcore, which is not compressed")
    if format_name is None and not elf and _asked("dump_level"):
        options.setdefault("compress", "none")
    kdump = not elf and not {"compress", "num_threads", "keep_incomplete"}.isdisjoint(options)
    return {"format": format_name or ("kdump" if kdump else "elf"), **options}


def _check_complete(done: phypan.Converted) -> None:
    """A failure that says what is missing, if something is."""
    for path, written in zip(done.paths, done.written, strict=True):
        if not written.complete:
            why = written.reason or f"{written.damaged} pages cannot be read"
            raise phypan.OutputError(
                f"it has {written.pages} pages and is flagged as incomplete: {why}",
                where=str(path),
            )


@click.command()
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@click.argument("target", type=PATH)
@key_option
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
def join(files: tuple[Path, ...], target: Path, keys: tuple[Path, ...], force: bool) -> None:
    """Write the files of a split set as one, without compressing anything anew."""
    with progress_bar() as progress:
        done = phypan.join(files, target, keys=keys, force=force, progress=progress)
    _check_complete(done)


@click.command()
@source_options
@render_option
def verify(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    keys: tuple[Path, ...],
    render: str,
) -> None:
    """List all that is damaged in a dump, by its checksums where it has them.

    The exit code is 1 if anything is.
    """
    with phypan.open(
        source, *others, regions=regions, source=source_name, hpt=hpt, keys=keys
    ) as dump:
        with progress_bar() as progress:
            found = phypan.verify(dump, progress=progress)
        phypan.render(found, dump, renderer=render)
    if any(True for _ in found):
        raise SystemExit(1)


@click.command()
@click.argument("files", metavar="FILE...", type=PATH, nargs=-1, required=True)
@click.argument("target", type=PATH)
@key_option
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
def repair(files: tuple[Path, ...], target: Path, keys: tuple[Path, ...], force: bool) -> None:
    """Write what is left of a damaged dump, so that other tools open it.

    Damaged pages become holes, and TARGET is flagged as incomplete.
    """
    with progress_bar() as progress:
        phypan.repair(files, target, keys=keys, force=force, progress=progress)


def _asked(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE
