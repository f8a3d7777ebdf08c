"""What several commands have in common: the options that open a dump, rows, progress."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import phypan

PATH = click.Path(path_type=Path)


def key_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option of every command that opens what may be sealed."""
    return click.option(
        "--key",
        "keys",
        metavar="FILE",
        multiple=True,
        type=PATH,
        help="File of secret keys, for a sealed dump; `age -d` takes the same.",
    )(command)


def seal_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Who is to be able to read what a command writes."""
    return click.option(
        "--seal-for",
        metavar="KEY",
        multiple=True,
        help="age public key, or a file of such: only their owners can read TARGET.",
    )(command)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
            type=PATH,
            help="Another file of a split set; SOURCE is one of them.",
        ),
        click.option(
            "--regions",
            metavar="FILE",
            multiple=True,
            type=PATH,
            help="What says where the firmware preserved memory: device tree, raw property, "
            "or the text of release_region. Several are checked against each other.",
        ),
        click.option(
            "--hpt",
            metavar="FILE",
            type=PATH,
            help="Image of the hashed page table; or ADDRESS+SIZE, where it is in the dump itself.",
        ),
        key_option,
        click.argument("source", type=PATH),
    ):
        command = decorate(command)
    return command


def kernel_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that look into the kernel."""
    for decorate in (
        click.option("--force", is_flag=True, help="Use a vmlinux of another build."),
        click.option(
            "-s",
            "--symbols",
            metavar="FILE",
            multiple=True,
            type=PATH,
            help="The kernel's vmlinux with debuginfo, or a module's. Without it the symbols and "
            "types in the dump are used.",
        ),
    ):
        command = decorate(command)
    return command


def row_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
        render_option,
    ):
        command = decorate(command)
    return command


def render_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """How rows are shown."""
    return click.option(
        "-r", "--render", default="table", show_default=True, help="How: table, json, ..."
    )(command)


def names(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def report(dump: phypan.Dump) -> None:
    """Say what is wrong with `dump`."""
    for problem in dump.problems:
        click.echo(f"phypan: problem: {problem}", err=True)


def _shows_progress() -> bool:
    """Whether somebody looks, and it can be shown: a RAM disk's console may be without rich."""
    return sys.stderr.isatty() and importlib.util.find_spec("rich") is not None


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal."""
    if not _shows_progress():
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
def status() -> Iterator[Callable[[str], None]]:
    """A line on a terminal that says what is going on."""
    if not _shows_progress():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as line:
        yield lambda text: line.update(Text(text, no_wrap=True, overflow="ellipsis"))
