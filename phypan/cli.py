"""The command line: parsing, and one call of the public API for each command.

Exit codes: 0 ok; 1 error; 2 usage, or something that is not supported here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import phypan
from phypan.options import LateOptions, arguments_of, given, options_of

_PATH = click.Path(path_type=Path)


class Commands(click.Group):
    """The commands below, and one for each analysis that a plugin offers."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*self.commands, *phypan.analyses()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        analysis = phypan.analyses().get(cmd_name)
        return _analysis_command(analysis) if analysis else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="phypan")
def cli() -> None:
    """Hypervisor-assisted dumps of IBM POWER partitions: read, convert, analyse and make them."""


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that opens a dump."""
    for decorate in (
        click.option(
            "--source", "source_name", metavar="NAME", help="Open it as this kind of source."
        ),
        click.option(
            "--regions",
            metavar="FILE",
            multiple=True,
            type=_PATH,
            help="What says where the firmware preserved memory: device tree, raw property, "
            "or the text of release_region. Several are checked against each other.",
        ),
        click.option(
            "--hpt",
            metavar="FILE",
            type=_PATH,
            help="Image of the hashed page table; or ADDRESS+SIZE, where it is in the dump itself.",
        ),
        click.argument("source", type=_PATH),
    ):
        command = decorate(command)
    return command


def _kernel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that look into the kernel."""
    for decorate in (
        click.option("--force", is_flag=True, help="Use a vmlinux of another build."),
        click.option(
            "-s",
            "--symbols",
            metavar="FILE",
            multiple=True,
            type=_PATH,
            help="The kernel's vmlinux with debuginfo, or a module's. Without it the symbols and "
            "types in the dump are used.",
        ),
    ):
        command = decorate(command)
    return command


def _row_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that show rows."""
    for decorate in (
        click.option(
            "--sort", default="", metavar="NAMES", help="Sort by columns; -NAME downwards."
        ),
        click.option(
            "--filter",
            "filters",
            multiple=True,
            metavar="CONDITION",
            help="Show rows for which it holds: 'pid > 100', 'comm ~ ^kworker'.",
        ),
        click.option("--columns", default="", metavar="NAMES", help="Show these, in this order."),
        click.option(
            "-r", "--render", default="table", show_default=True, help="How: table, json, ..."
        ),
    ):
        command = decorate(command)
    return command


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _analysis_command(analysis: phypan.Analysis) -> click.Command:
    """The command of an analysis: its arguments and options are those of its function."""

    @_source_options
    @_kernel_options
    @_row_options
    def run(
        source: Path,
        regions: tuple[Path, ...],
        source_name: str | None,
        render: str,
        columns: str,
        filters: tuple[str, ...],
        sort: str,
        **options: Any,
    ) -> None:
        kernel = {name: options.pop(name) for name in ("hpt", "symbols", "force")}
        with phypan.open(source, regions=regions, source=source_name, **kernel) as dump:
            known = len(dump.problems)
            rows = phypan.run(dump, analysis.name, **options)
            rows = phypan.select(rows, names=_names(columns), filters=filters, sort=_names(sort))
            phypan.render(rows, dump, renderer=render)
            for problem in dump.problems[known:]:
                click.echo(f"phypan: problem: {phypan.printable(str(problem))}", err=True)

    def late() -> list[click.Parameter]:
        return [*arguments_of(analysis.run), *options_of(analysis.run)]

    make = click.command(analysis.name, cls=LateOptions, help=analysis.help, late=late)
    return make(run)


@cli.command(
    cls=LateOptions,
    late=lambda: options_of(*(writer.write for writer in phypan.writers().values())),
)
@_source_options
@click.argument("target", type=_PATH)
@click.option("--format", "format_name", default="elf", show_default=True, metavar="NAME")
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
def convert(
    source: Path,
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    target: Path,
    format_name: str,
    force: bool,
    **options: Any,
) -> None:
    """Write SOURCE to TARGET in another format: a vmcore for crash, drgn, gdb, libkdumpfile."""
    with phypan.open(source, regions=regions, source=source_name) as dump, _progress() as progress:
        phypan.convert(
            dump, target, format=format_name, force=force, progress=progress, **given(options)
        )
        for problem in dump.problems:
            click.echo(f"phypan: problem: {problem}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is going on."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text, no_wrap=True, overflow="ellipsis"))


@cli.command(cls=LateOptions, late=lambda: options_of(*phypan.guests().values()))
@click.option("-o", "--directory", type=_PATH, help="Where to write; must be new.")
@click.option(
    "--mount", "mount_at", type=_PATH, help="Show the second boot's files here, until unmounted."
)
@click.option("--guest", default="synthetic", show_default=True, help="What runs and dies.")
def simulate(directory: Path | None, mount_at: Path | None, guest: str, **options: Any) -> None:
    """Crash a partition of the platform model and keep what its second boot finds."""
    if directory is None and mount_at is None:
        raise click.UsageError("give -o DIRECTORY, or --mount DIRECTORY, or both")
    with _status() as report:
        done = phypan.simulate(directory, guest=guest, report=report, **given(options))
    for line in done.boot.lpar.log if done else ():
        click.echo(line)
    if directory is not None:
        click.echo(f"{directory}: try `phypan info {directory}`")
    if mount_at is not None and done is not None:
        click.echo(f"{mount_at}: mounted; `fusermount3 -u {mount_at}` or Ctrl-C ends it")
        phypan.mount(done, mount_at)


@cli.command()
@click.option("-o", "--directory", type=_PATH, help="Keep the files here.  [default: nowhere]")
def demo(directory: Path | None) -> None:
    """Tell the story of a crash: boot, register, die, boot again, convert, look."""
    from phypan.demo import tell

    tell(directory)


@cli.command()
@_source_options
def doctor(source: Path, regions: tuple[Path, ...], source_name: str | None) -> None:
    """Print a small text about SOURCE for a bug report: layouts, no contents of memory."""
    click.echo(phypan.doctor(source, regions=regions, source=source_name), nl=False)


@cli.command()
def plugins() -> None:
    """List the plugins, what each offers, and why some are left out."""
    for plugin in phypan.list_plugins():
        click.echo(f"{plugin.name} ({plugin.origin})")
        for offer in plugin.offers:
            click.echo(f"    {offer}")
        if plugin.failure:
            click.echo(f"    left out: {plugin.failure}")


def main() -> int:
    """Run the command line; the exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("phypan: stopped", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except phypan.PhypanError as error:
        click.echo(f"phypan: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {phypan.printable(error.hint)}", err=True)
        return error.exit_code
    return code if isinstance(code, int) else 0
