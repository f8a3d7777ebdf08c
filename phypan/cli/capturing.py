"""Commands of the second boot: capture, status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import phypan
from phypan.cli.options import LateOptions, given, options_of
from phypan.cli.shared import PATH, progress_bar

LOST, NONE_WAITS = 3, 4  # exit codes

_root = click.option(
    "--root", default="/", show_default=True, type=PATH, help="Where the system's files are."
)


@click.command(cls=LateOptions, late=lambda: options_of(phypan.writers()["elf"].write))
@click.argument("target", type=PATH)
@_root
@click.option("--release/--no-release", default=None,
              help="Give memory back as it is saved.  [default: of phyp dump]")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with a capture that was stopped, if any.")
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="Read back what was written before it counts as safe.")  # fmt: skip
@click.option("--journal", metavar="FILE", type=PATH,
              help="What was done for certain.  [default: TARGET.journal]")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Overwrite TARGET.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
def capture(target: Path, root: Path, dry_run: bool, **options: Any) -> int:
    """Save the dump that waits in this system to TARGET, and give its memory back.

    Exit codes: 0 all is saved; 1 it failed, and --resume goes on; 2 usage; 3 saved, but for what
    could not be read; 4 no dump is waiting.
    """
    chosen = given(options)
    if dry_run:
        of_writer = {name for name in chosen if name not in _OWN}
        own = {name: chosen[name] for name in chosen if name in of_writer or name == "release"}
        return _show_plan(phypan.plan_capture(target, root=root, **own))
    with progress_bar() as progress:
        done = phypan.capture(target, root=root, progress=progress, **chosen)
    _problems(done.problems)
    for lost in done.lost:
        where = f"{lost.size:#x} bytes at file offset {lost.at:#x}"
        click.echo(f"phypan: lost: {where}: {phypan.printable(lost.why)}", err=True)
    said = f"{done.target}: {done.size} bytes"
    if done.released:
        said += f"; {_mib(done.released)} of memory were given back"
    click.echo(said)
    return 0 if done.whole else LOST


_OWN = frozenset({"release", "resume", "verify", "journal", "force"})


def _problems(problems: Any) -> None:
    for problem in problems:
        click.echo(f"phypan: problem: {problem}", err=True)


def _show_plan(plan: phypan.CapturePlan) -> int:
    _problems(plan.problems)
    click.echo(f"{plan.mechanism} dump: {_mib(plan.saved)} of memory would be saved")
    click.echo(f"{plan.target}: {plan.size} bytes at the most, {plan.free} are free")
    for pair in plan.releases:
        click.echo(f"release {pair.start:#x} {pair.length:#x}")
    if not plan.releases:
        click.echo("no ranges of memory would be given back")
    if plan.free < plan.size:
        click.echo("phypan: there may be too little room: zeros take none", err=True)
    return 0


@click.command()
@_root
def status(root: Path) -> int:
    """Tell whether a dump is waiting, and whether another crash would be dumped.

    Exit codes: 0 a dump is waiting; 4 none is.
    """
    system = phypan.status(root)
    waits = "no dump is waiting" if system.mechanism is None else f"{system.mechanism} dump waits"
    click.echo(waits)
    if system.reserved is not None:
        click.echo(f"reserved: {_mib(system.reserved)}")
    told = {True: "yes", False: "no", None: "unknown"}[system.registered]
    click.echo(f"another crash would be dumped: {told}")
    journal = phypan.unfinished_capture(root)
    if journal is not None:
        click.echo(f"a capture is not complete: {phypan.printable(str(journal))}")
    return 0 if system.mechanism is not None else NONE_WAITS


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
