"""The command line: parsing, and one call of the public API for each command.

Exit codes: 0 ok; 1 error; 2 usage, or something that is not supported here. `capture` has more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli import capturing, estimating, redacting, saving, sessions, writing
from phypan.cli.options import LateOptions, arguments_of, given, options_of
from phypan.cli.shared import PATH, kernel_options, names, row_options, source_options, status


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


def _analysis_command(analysis: phypan.Analysis) -> click.Command:
    """The command of an analysis: its arguments and options are those of its function."""

    @source_options
    @kernel_options
    @row_options
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
        kernel = {name: options.pop(name) for name in ("hpt", "symbols", "force", "keys")}
        with phypan.open(source, *others, regions=regions, source=source_name, **kernel) as dump:
            known = len(dump.problems)
            rows = phypan.run(dump, analysis.name, **options)
            rows = phypan.select(rows, names=names(columns), filters=filters, sort=names(sort))
            phypan.render(rows, dump, renderer=render)
            for problem in dump.problems[known:]:
                click.echo(f"phypan: problem: {phypan.printable(str(problem))}", err=True)

    def late() -> list[click.Parameter]:
        return [*arguments_of(analysis.run), *options_of(analysis.run)]

    make = click.command(analysis.name, cls=LateOptions, help=analysis.help, late=late)
    return make(run)


@cli.command(cls=LateOptions, late=lambda: options_of(*phypan.guests().values()))
@click.option("-o", "--directory", type=PATH, help="Where to write; must be new.")
@click.option(
    "--mount", "mount_at", type=PATH, help="Show the second boot's files here, until unmounted."
)
@click.option(
    "--from",
    "taken",
    type=PATH,
    help="With --mount: crash nothing, show what this dump directory has.",
)
@click.option("--guest", default="synthetic", show_default=True, help="What runs and dies.")
def simulate(
    directory: Path | None, mount_at: Path | None, taken: Path | None, guest: str, **options: Any
) -> None:
    """Crash a partition of the platform model and keep what its second boot finds."""
    if taken is not None:
        if mount_at is None or directory is not None or guest != "synthetic" or given(options):
            raise click.UsageError("--from DUMP goes with --mount DIRECTORY, and no other option")
        _mount(taken, mount_at)
        return
    if directory is None and mount_at is None:
        raise click.UsageError("give -o DIRECTORY, or --mount DIRECTORY, or both")
    if mount_at is not None and guest != "synthetic":
        raise click.UsageError("--mount shows the second boot of the synthetic guest only")
    with status() as report:
        done = phypan.simulate(directory, guest=guest, report=report, **given(options))
    for line in done.boot.lpar.log if done else ():
        click.echo(line)
    if directory is not None:
        click.echo(f"{directory}: try `phypan info {directory}`")
    if mount_at is not None and done is not None:
        _mount(done, mount_at)


def _mount(boot: phypan.Simulation | Path, folder: Path) -> None:
    """Show a second boot there, until it is unmounted."""
    click.echo(f"{folder}: mounted; `fusermount3 -u {folder}` or Ctrl-C ends it")
    phypan.mount(boot, folder)


@cli.command()
@click.option("-o", "--directory", type=PATH, help="Keep the files here.  [default: nowhere]")
def demo(directory: Path | None) -> None:
    """Tell the story of a crash: boot, register, die, boot again, convert, look."""
    from phypan.demo import tell

    tell(directory)


@cli.command()
@source_options
def doctor(
    source: Path,
    others: tuple[Path, ...],
    regions: tuple[Path, ...],
    source_name: str | None,
    hpt: Path | None,
    keys: tuple[Path, ...],
) -> None:
    """Print a small text about SOURCE for a bug report: layouts, no contents of memory."""
    text = phypan.doctor(source, *others, regions=regions, source=source_name, hpt=hpt, keys=keys)
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


@cli.command()
@click.argument("file", type=PATH)
def keygen(file: Path) -> None:
    """Make a pair of keys: the secret one in FILE, for --key; the public one here, for --seal-for.

    They are age's, as age-keygen makes them. Keep FILE away from the machine that crashes.
    """
    click.echo(phypan.write_pair(file))


_WRITING = (
    writing.convert,
    writing.join,
    writing.verify,
    writing.repair,
    redacting.redact,
    estimating.estimate,
)
_SESSIONS = (sessions.shell, sessions.drgn)
for _command in (*_WRITING, capturing.capture, capturing.status, saving.save, *_SESSIONS):
    cli.add_command(_command)


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
