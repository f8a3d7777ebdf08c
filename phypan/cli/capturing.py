"""Commands of the second boot: capture, status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli.options import LateOptions, given, options_of
from phypan.cli.shared import PATH, progress_bar, seal_option
from phypan.cli.writing import letters, retry_options, say

LOST, NONE_WAITS = 3, 4  # exit codes

root_option = click.option(
    "--root", default="/", show_default=True, type=PATH, help="Where the system's files are."
)


def _writer_options() -> list[click.Parameter]:
    """The options of all writers, but for those that make no whole file."""
    found = options_of(*(writer.write for writer in phypan.writers().values()))
    return [option for option in found if option.name not in ("part", "parts", "keep_incomplete")]


@click.command(cls=LateOptions, late=_writer_options)
@click.argument("target")
@root_option
@click.option("--release/--no-release", default=None,
              help="Give memory back as it is saved.  [default: of phyp dump, but not "
              "with a pipe]")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a capture that was stopped, if any.")
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="Read back what was written before it counts as safe.")  # fmt: skip
@click.option("--journal", metavar="FILE", type=PATH,
              help="What was done for certain.  [default: TARGET.journal, or in "
              "/var/lib/phypan for a place elsewhere]")  # fmt: skip
@seal_option
@click.option("--format", metavar="NAME", help="elf, kdump, ...  [default: elf]")
@letters
@retry_options
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def capture(target: str, root: Path, dry_run: bool, **options: Any) -> int:
    """Save the dump that waits in this system to TARGET, and give its memory back.

    TARGET is a path, ssh://HOST/PATH, s3://BUCKET/KEY, https://HOST/PATH for a PUT, or - for
    standard output. What takes no offsets gets a flattened dump. With -c, -l, -p, -z or -d it is a
    compressed dump, else an ELF vmcore.

    Exit codes: 0 all is saved; 1 it failed, and --resume goes on; 2 usage; 3 saved, but for what
    could not be read; 4 no dump is waiting.
    """
    chosen = _chosen(**given(options))
    if dry_run:
        of_writer = {name for name in chosen if name not in _OWN}
        own = {name: chosen[name] for name in chosen if name in of_writer or name == "release"}
        return show_plan(phypan.plan_capture(target, root=root, **own))
    with progress_bar() as progress:
        done = phypan.capture(target, root=root, progress=progress, report=say, **chosen)
    return show(done)


def _chosen(
    codec: str | None = None,
    elf: bool = False,
    dump_level: tuple[int, ...] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """makedumpfile's letters, as phypan.capture wants them."""
    if elf and codec is not None:
        raise click.UsageError("-E is an ELF vmcore, which is not compressed")
    if elf:
        options["format"] = "elf"
    if codec is not None:
        options["compress"] = codec
    elif dump_level is not None and not elf and "format" not in options:
        options.setdefault("compress", "none")
    elif "num_threads" in options and "format" not in options:
        options.setdefault("compress", "zlib")
    if dump_level is not None:
        options["dump_level"] = dump_level
    return options


_OWN = frozenset(
    {"release", "resume", "verify", "journal", "force", "seal_for", "retries", "retry_wait"}
)


def _problems(problems: Any) -> None:
    for problem in problems:
        click.echo(f"phypan: problem: {problem}", err=True)


def show(done: phypan.Captured) -> int:
    """Say what a capture did; the exit code."""
    _problems(done.problems)
    for lost in done.lost:
        what = "physical address" if done.compressed else "file offset"
        where = f"{lost.size:#x} bytes at {what} {lost.at:#x}"
        click.echo(f"phypan: lost: {where}: {phypan.printable(lost.why)}", err=True)
    piped = done.target == "-"
    said = f"{'phypan: standard output' if piped else done.target}: {done.size} bytes"
    if done.released:
        said += f"; {_mib(done.released)} of memory were given back"
    click.echo(said, err=piped)
    return 0 if done.whole else LOST


def show_plan(plan: phypan.CapturePlan) -> int:
    """Say what a capture would do; the exit code."""
    _problems(plan.problems)
    click.echo(f"{plan.mechanism} dump: {_mib(plan.saved)} of memory would be saved")
    room = "" if plan.free is None else f", {plan.free} are free"
    click.echo(f"{plan.target}: {plan.size} bytes at the most{room}")
    for pair in plan.releases:
        click.echo(f"release {pair.start:#x} {pair.length:#x}")
    if not plan.releases:
        click.echo("no ranges of memory would be given back")
    if plan.free is not None and plan.free < plan.size:
        click.echo("phypan: there may be too little room: zeros take none", err=True)
    return 0


@click.command()
@root_option
def status(root: Path) -> int:
    """Tell whether a dump is waiting, and whether another crash would be dumped.

    Exit codes: 0 a dump is waiting; 4 none is.
    """
    system = phypan.status(root)
    waits = "no dump is waiting" if system.mechanism is None else f"{system.mechanism} dump waits"
    click.echo(waits)
    if system.waiting is not None:
        click.echo(f"its size: {_mib(system.waiting)} at the most")
    reserved = "unknown" if system.reserved is None else _mib(system.reserved)
    click.echo(f"reserved: {reserved}")
    if system.opal_core is not None:
        click.echo("the firmware's own core waits too")
    told = {True: "yes", False: "no", None: "unknown"}[system.registered]
    click.echo(f"another crash would be dumped: {told}")
    journal = phypan.unfinished_capture(root)
    if journal is not None:
        click.echo(f"a capture is not complete: {phypan.printable(str(journal))}")
    return 0 if system.mechanism is not None else NONE_WAITS


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
