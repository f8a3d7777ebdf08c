"""The command that the system runs after a crash: save."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import click

import phypan
from phypan.cli import capturing, writing
from phypan.cli.shared import PATH, progress_bar

_FILES = {
    "unit": "phypan-save.service",
    "drop-in": "kdump-drop-in.conf",
    "hook": "kdump-hook.sh",
    "config": "phypan.toml",
}


@click.command()
@click.option("--config", type=PATH, metavar="FILE", help="Settings.  [default: /etc/phypan.toml]")
@capturing.root_option
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option(
    "--print",
    "printed",
    type=click.Choice(list(_FILES)),
    help="Print a file for this system, and do nothing: a systemd unit, what keeps kdump's own "
    "unit from saving too, a hook for kdump, the settings with what they mean.",
)
def save(config: Path | None, root: Path, dry_run: bool, printed: str | None) -> int:
    """Save the dump that waits in this system as /etc/phypan.toml says, or go on with it.

    It goes to HOST-DATE/vmcore, with vmcore-dmesg.txt and triage.json. Exit codes are those of
    `phypan capture`: 0 all is saved; 1 it failed, and the same command goes on; 2 usage; 3 saved,
    but for what could not be read; 4 no dump is waiting.
    """
    if printed is not None:
        click.echo(_file(printed), nl=False)
        return 0
    settings = phypan.read_settings(config)
    if dry_run:
        return capturing.show_plan(phypan.plan_saving(settings, root=root))
    with progress_bar() as progress:
        done = phypan.save(settings, root=root, report=writing.say, progress=progress)
    code = capturing.show(done.captured)
    for path in done.beside:
        click.echo(phypan.printable(path))
    for problem in done.problems:
        click.echo(f"phypan: problem: {problem}", err=True)
    for path in done.removed:
        click.echo(f"removed: {phypan.printable(path)}")
    return code


def _file(name: str) -> str:
    """A file of the package, with the path of this program."""
    text = (resources.files("phypan.rescue.system") / _FILES[name]).read_text()
    program = Path(sys.argv[0])
    path = program.resolve() if program.name == "phypan" else Path(sys.executable)
    words = str(path) if program.name == "phypan" else f"{path} -m phypan"
    return text.replace("@PHYPAN@", words)
