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
            "--with",
            "others",
            metavar="FILE",
            multiple=True,
            type=_PATH,
            help="Another file of a split set; SOURCE is one of them.",
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
        _render_option,
    ):
        command = decorate(command)
    return command


def _render_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-r", "--render", default="table", show_default=True, help="How: table, json, ..."
    )(command)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _analysis_command(analysis: phypan.Analysis) -> click.Command:
    """The command of an analysis: its arguments and options are those of its function."""

    @_source_options
    @_kernel_options
    @_row_options
    def run(
        source: Path,
        others: tuple[Path, ...],
        regions: tuple[Path, ...],
        source_name: str | None,
        render: str,
        columns: str,
        filters: tuple[str, ...],
        sort: str,
        **options: Any,
    ) -> None:
        kernel = {name: options.pop(name) for name in ("hpt", "symbols", "force")}
        with phypan.open(source, *others, regions=regions, source=source_name, **kernel) as dump:
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


def _writer_options() -> list[click.Parameter]:
    """The options of all writers, but for those that --split sets."""
    found = options_of(*(writer.write for writer in phypan.writers().values()))
    return [option for option in found if option.name not in ("part", "parts")]


_LETTERS = {"c": "zlib", "l": "lzo", "p": "snappy", "z": "zstd"}


def _letters(command: Callable[..., Any]) -> Callable[..., Any]:
    """makedumpfile's letters."""
    for letter, name in reversed(_LETTERS.items()):
        text = f"Compressed dump, pages compressed by {name}."
        command = click.option(f"-{letter}", "codec", flag_value=name, default=None, help=text)(
            command
        )
    for decorate in (
        click.option("-F", "flattened", is_flag=True, help="Flattened, as for a pipe."),
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


@cli.command(cls=LateOptions, late=_writer_options)
@_source_options
@click.argument("target", type=_PATH, required=False)
@click.option("--format", "format_name", metavar="NAME", help="elf, kdump, ...  [default: elf]")
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
@_letters
@click.option("--split", metavar="N", type=click.IntRange(1, 1000), default=1,
              help="Write TARGET.1 to TARGET.N, each with a share of the pages.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only tell what would be written, by a sample.")
@click.option("--show-stats", is_flag=True, help="Tell what was left out and written.")
def convert(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    target: Path | None,
    dump_level: tuple[int, ...],
    split: int,
    flattened: bool,
    force: bool,
    dry_run: bool,
    show_stats: bool,
    **options: Any,
) -> None:
    """Write SOURCE to TARGET in another format: for crash, drgn, gdb, libkdumpfile.

    TARGET may be -, for standard output: a flattened dump. With -c, -l, -p, -z or -d it is a
    compressed dump, else an ELF vmcore.
    """
    chosen = _chosen(**options)
    if target is None and not dry_run:
        raise click.UsageError("Missing argument 'TARGET'.")
    with phypan.open(source, *others, regions=regions, source=source_name, hpt=hpt) as dump:
        if dry_run or target is None:
            rows = phypan.estimate(dump, dump_level=dump_level[0], **chosen)
            phypan.render(rows, dump)
            return
        with _progress() as progress:
            done = phypan.convert(
                dump, target, dump_level=dump_level, flattened=flattened, split=split,
                force=force, progress=progress, **chosen,
            )  # fmt: skip
        if show_stats:
            phypan.render(phypan.statistics(dump, done), dump, file=sys.stderr)
        _report(dump)
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


@cli.command()
@click.argument("files", metavar="FILE...", type=_PATH, nargs=-1, required=True)
@click.argument("target", type=_PATH)
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
def join(files: tuple[Path, ...], target: Path, force: bool) -> None:
    """Write the files of a split set as one, without compressing anything anew."""
    with _progress() as progress:
        done = phypan.join(files, target, force=force, progress=progress)
    _check_complete(done)


@cli.command()
@_source_options
@_render_option
def verify(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    render: str,
) -> None:
    """List all that is damaged in a dump, by its checksums where it has them.

    The exit code is 1 if anything is.
    """
    with phypan.open(source, *others, regions=regions, source=source_name, hpt=hpt) as dump:
        with _progress() as progress:
            found = phypan.verify(dump, progress=progress)
        phypan.render(found, dump, renderer=render)
    if any(True for _ in found):
        raise SystemExit(1)


@cli.command()
@click.argument("files", metavar="FILE...", type=_PATH, nargs=-1, required=True)
@click.argument("target", type=_PATH)
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
def repair(files: tuple[Path, ...], target: Path, force: bool) -> None:
    """Write what is left of a damaged dump, so that other tools open it.

    Damaged pages become holes, and TARGET is flagged as incomplete.
    """
    with _progress() as progress:
        phypan.repair(files, target, force=force, progress=progress)


def _asked(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _report(dump: phypan.Dump) -> None:
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
def doctor(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
) -> None:
    """Print a small text about SOURCE for a bug report: layouts, no contents of memory."""
    text = phypan.doctor(source, *others, regions=regions, source=source_name, hpt=hpt)
    click.echo(text, nl=False)


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
