"""The command line: parsing, and one call of the public API for each command.

Exit codes: 0 ok; 1 error; 2 usage, or something that is not supported here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

import phypan

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


def _analysis_command(analysis: phypan.Analysis) -> click.Command:
    """The command of an analysis: its arguments and options are those of its function."""

    def run(
        source: Path,
        others: tuple[Path, ...],
        regions: tuple[Path, ...],
        source_name: str | None,
        hpt: Path | None,
        render: str,
        **options: Any,
    ) -> None:
        with phypan.open(source, *others, regions=regions, source=source_name, hpt=hpt) as dump:
            rows = phypan.run(dump, analysis.name, **options)
            phypan.render(rows, dump, renderer=render)

    params: Callable[..., Any] = run
    for parameter in (*_options(analysis.run), *reversed(list(_arguments(analysis.run)))):
        params = parameter(params)
    return click.command(analysis.name, help=analysis.help)(_source_options(_render_option(params)))


def _render_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """How rows are shown."""
    return click.option(
        "-r",
        "--render",
        default="table",
        metavar="NAME",
        help="table, json, ...",
        show_default=True,
    )(command)


def _options(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A click option for each keyword-only parameter of `function`."""
    hints = get_type_hints(function, include_extras=True)
    described = _described(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        flag = "--" + parameter.name.rstrip("_").replace("_", "-")
        yield click.option(
            flag,
            parameter.name,
            default=parameter.default,
            help=described.get(parameter.name, ""),
            show_default=parameter.default not in (None, False, ""),
            **_click_type(hints[parameter.name]),
        )


def _arguments(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A click argument for each parameter of `function` behind the first that is not keyword-only.

    One that is a tuple takes any number of values, but one at least if it has no default.
    """
    hints = get_type_hints(function, include_extras=True)
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(function).parameters.values()
    for parameter in [p for p in parameters if p.kind is positional][1:]:
        hint, required = hints[parameter.name], parameter.default is inspect.Parameter.empty
        many = get_origin(hint) is tuple
        yield click.argument(
            parameter.name,
            nargs=-1 if many else 1,
            required=required,
            default=None if required else parameter.default,
            **_click_type(get_args(hint)[0] if many else hint),
        )


def _click_type(hint: Any) -> dict[str, Any]:
    if hint is bool:
        return {"is_flag": True}
    if get_origin(hint) is Literal:
        return {"type": click.Choice([str(choice) for choice in get_args(hint)])}
    kinds = {int: Number(0), float: click.FLOAT, str: click.STRING}
    for kind in (hint, *get_args(hint)):
        if any(isinstance(extra, phypan.Show) for extra in getattr(kind, "__metadata__", ())):
            return {"type": Number(16 if kind.__metadata__[0].base == 16 else 0)}
        if kind in kinds:
            return {"type": kinds[kind]}
    raise phypan.PluginError(f"an option cannot be a {hint}")


class Number(click.ParamType):  # type: ignore[type-arg]
    """An integer: of base 0, decimal or with 0x; of base 16, with or without it."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.name = "address" if base == 16 else "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The integer, or a usage error."""
        try:
            return value if isinstance(value, int) else int(value, self.base)
        except ValueError:
            self.fail(f"{value!r} is not a{'n' * (self.base == 16)} {self.name}", param, ctx)


def _described(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of `function` says of its parameters: lines of NAME, two spaces, text."""
    found: dict[str, str] = {}
    name = None
    for line in inspect.cleandoc(function.__doc__ or "").split("\n")[1:]:
        first, _, rest = line.partition("  ")
        if first and not line.startswith(" ") and rest:
            name = first
            found[name] = rest.strip()
        elif line.startswith(" ") and name:
            found[name] += " " + line.strip()
        else:
            name = None
    return found


class Convert(click.Command):
    """A command with the options of all writers, which are imported when it is run."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters, and one for each option of a writer."""
        own = super().get_params(ctx)
        names = {parameter.name for parameter in own} | {"part", "parts"}  # --split sets these
        for writer in phypan.writers().values():
            for option in _parameters(_options(writer.write)):
                if option.name not in names:
                    names.add(option.name)
                    own.insert(-1, option)
        return own


def _parameters(decorators: Iterator[Callable[..., Any]]) -> Iterator[click.Parameter]:
    """What decorators would give a command."""
    for decorate in decorators:
        command = click.Command("")
        decorate(command)
        yield from command.params


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


@cli.command(cls=Convert)
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
    given = _chosen(**options)
    if target is None and not dry_run:
        raise click.UsageError("Missing argument 'TARGET'.")
    with phypan.open(source, *others, regions=regions, source=source_name, hpt=hpt) as dump:
        if dry_run or target is None:
            rows = phypan.estimate(dump, dump_level=dump_level[0], **given)
            phypan.render(rows, dump)
            return
        with _progress() as progress:
            done = phypan.convert(
                dump, target, dump_level=dump_level, flattened=flattened, split=split,
                force=force, progress=progress, **given,
            )  # fmt: skip
        if show_stats:
            phypan.render(phypan.statistics(dump, done), dump, file=sys.stderr)
        _report(dump)
    _check_complete(done)


def _chosen(
    format_name: str | None, codec: str | None, elf: bool, **options: Any
) -> dict[str, Any]:
    """The format and the writer's options: makedumpfile's letters mean a compressed dump."""
    given = _given(options)
    if codec is not None:
        given["compress"] = codec
    if elf and codec is not None:
        raise click.UsageError("-E is an ELF vmcore, which is not compressed")
    if format_name is None and not elf and _asked("dump_level"):
        given.setdefault("compress", "none")
    kdump = not elf and not {"compress", "num_threads", "keep_incomplete"}.isdisjoint(given)
    return {"format": format_name or ("kdump" if kdump else "elf"), **given}


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


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were on the command line: a writer need not know the others."""
    return {name: value for name, value in options.items() if _asked(name)}


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

    with Progress(
        BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


@cli.command()
def plugins() -> None:
    """List the plugins, what each offers, and why some are left out."""
    for plugin in phypan.plugins():
        click.echo(f"{plugin.name} ({plugin.origin})")
        for offer in plugin.offers:
            click.echo(f"    {offer}")
        if plugin.failure:
            click.echo(f"    left out: {plugin.failure}")


def main() -> int:
    """Run the command line; the exit code."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("phypan: stopped", err=True)
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except phypan.PhypanError as error:
        click.echo(f"phypan: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        return error.exit_code
    return 0
