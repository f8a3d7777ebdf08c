"""The four hooks, and what a Source, a Writer, an Analysis and a Renderer is.

A plugin is a module with functions of these names under @phypan.hookimpl, named by an entry point
of group "phypan". Everything built in comes in the same way. No hook is asked for a first result:
what is returned is put together, and names or certainty decide, so that the order in which plugins
were installed decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pluggy

if TYPE_CHECKING:
    from phypan.dump import Dump
    from phypan.errors import Problem
    from phypan.rows import Rows
    from phypan.stores import Store

hookspec = pluggy.HookspecMarker("phypan")
hookimpl = pluggy.HookimplMarker("phypan")


@dataclass(frozen=True)
class Input:
    """What a user asked to open.

    path      as it was given
    store     its bytes; None when it is a directory
    head      the first 4096 bytes, fewer if there are no more; empty for a directory
    regions   files that describe a firmware-assisted dump (--regions)
    hpt       an image of the hashed page table, or where it is in memory (--hpt); whoever opens the
              dump takes care of it
    others    the other files of a set (--with), already out of their envelopes
    keys      files of secret keys, for what is sealed (--key)
    cache     bytes of decoded pages that the source may keep in memory
    problems  what an envelope found on the way; the Dump gets them
    """

    path: Path
    store: Store | None
    head: bytes = b""
    regions: tuple[Path, ...] = ()
    hpt: Path | None = None
    others: tuple[Input, ...] = ()
    keys: tuple[Path, ...] = ()
    cache: int = 64 << 20
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Source:
    """A way to open a dump.

    name      one word; --source NAME asks for it by this name
    help      one line
    probe     how sure it is that an Input is its own: 0 not at all, 100 beyond doubt. It must be
              quick and must not fail: an exception counts as 0
    open      the Dump, or another Input that is inside of this one and is probed anew (an
              envelope: flattened, sealed), made of this one with dataclasses.replace. It may raise
              PhypanError; what else it raises is a bug of the plugin
    envelope  whether `open` always gives what is inside: the other files of a set are taken out
              of such before the set is opened
    sets      whether it opens sets of several files (Input.others)
    """

    name: str
    help: str
    probe: Callable[[Input], int]
    open: Callable[[Input], Dump | Input]
    envelope: bool = False
    sets: bool = False


@dataclass(frozen=True)
class Written:
    """What a writer wrote.

    pages     pages whose content is in the file, those of zeros too
    zeros     of them, those that take no room of their own
    damaged   pages that were to be written and could not be read
    size      bytes of the file
    complete  whether all pages are there; why not, in `reason`
    """

    pages: int
    zeros: int = 0
    damaged: int = 0
    size: int = 0
    complete: bool = True
    reason: str = ""


@dataclass(frozen=True)
class Writer:
    """A way to write a dump.

    name   one word; --format NAME asks for it by this name
    help   one line
    write  called with the Dump, an Output and a Progress, and by keyword with the options that
           its signature names: keyword-only, with defaults, each an option on the command line.
           It writes everything, and may return Written, which says what that was; the caller
           opens, finishes and names the file
    splits whether a dump can be written as several files, in any order: `write` then takes `part`
           and `parts` as well, 0 and 1 for a single file
    merges of the pages that a filter leaves out, runs that are shorter than this are kept, for a
           format in which each run costs something
    plan   called with the Dump, and by keyword with options of `write`: all that the file takes of
           the dump but for the content of its pages, as bytes
    fill   called with such a plan, a Memory, an Output that takes checkpoints, a Progress, the
           state of the checkpoint to go on behind ({}: from the beginning), and `again`. It puts
           the bytes that `write` puts, in the same order whatever it goes on behind, and reads
           memory in ascending order. `again`: the file may hold what was put behind that
           checkpoint and is different by now, so that all is put that is to be there, even
           where a file that was never stopped has it from before

    `plan` and `fill` are for formats in which a capture can be stopped and gone on with: memory is
    then given back as it is saved. One without them is captured too; it is begun anew when it was
    stopped, and memory is given back when all of it is saved.
    """

    name: str
    help: str
    write: Callable[..., Written | None]
    splits: bool = False
    merges: int = 1
    plan: Callable[..., bytes] | None = None
    fill: Callable[..., Written] | None = None


@dataclass(frozen=True)
class Analysis:
    """A question to a dump, answered in rows.

    run    called with the Dump, and by keyword with its options, as a Writer is. It yields rows;
           it prints nothing, and opens no files but those that its parameters of type
           pathlib.Path name: another dump, for instance, with phypan.open. Its name is the
           command's, and the first line of its docstring is the command's help. Parameters between
           the Dump and the keyword-only ones are the command's arguments: a tuple takes any
           number of them
    row    the frozen dataclass that it yields (see phypan.rows)
    needs  names of attributes of Dump that must not be empty: "cpus", "vmcoreinfo", "hptesave",
           "symbols", "types" (which is dump.program with types in it). Where one is, the answer
           is a reason instead of rows
    text   gives the lines that people are used to see for the rows; None: they see a table. What
           comes from a dump may stand in it as it is: it is escaped when it is shown
    """

    run: Callable[..., Iterable[Any]]
    row: type
    needs: frozenset[str] = field(default_factory=frozenset)
    name: str = ""
    text: Callable[[Iterable[Any]], Iterable[str]] | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.run.__name__.rstrip("_"))

    @property
    def help(self) -> str:
        """One line."""
        return (self.run.__doc__ or "").strip().split("\n")[0]


@dataclass(frozen=True)
class Renderer:
    """A way to show rows.

    name    one word; -r NAME asks for it by this name
    help    one line
    render  called with the Rows, the Dump and a text file to write to. What comes from a dump may
            hold anything: it is for the renderer to escape it
    """

    name: str
    help: str
    render: Callable[[Rows, Dump, TextIO], None]


@dataclass(frozen=True)
class Secret:
    """A kind of secret that `phypan redact` looks for.

    name     one word
    help     one line: what it is
    needles  bytes of which one is in all of these: they are looked for first
    pattern  matches the secret; up to 64 bytes of it may stand before the needle, and 16 KiB behind
    """

    name: str
    help: str
    needles: Sequence[bytes]
    pattern: re.Pattern[bytes]


@hookspec
def phypan_sources() -> Sequence[Source]:  # type: ignore[empty-body]
    """Offer ways to open a dump.

    Called once for each registry, before anything is read. For every input each `probe` is asked,
    and the surest source opens it. Two that are equally sure are an error that names both: the
    user chooses with --source.
    """


@hookspec
def phypan_writers() -> Sequence[Writer]:  # type: ignore[empty-body]
    """Offer ways to write a dump.

    Called once for each registry. A name that is taken already is refused and listed as a
    failure of the plugin that came later; built-in ones come first.
    """


@hookspec
def phypan_analyses() -> Sequence[Analysis]:  # type: ignore[empty-body]
    """Offer questions to a dump. Each becomes a command.

    Called once for each registry, at start-up: import what is slow inside of `run`. Names are
    treated as for writers.
    """


@hookspec
def phypan_renderers() -> Sequence[Renderer]:  # type: ignore[empty-body]
    """Offer ways to show rows.

    Called once for each registry. Names are treated as for writers.
    """


@hookspec
def phypan_secrets() -> Sequence[Secret]:  # type: ignore[empty-body]
    """Offer kinds of secrets that are taken out of a dump before it is given away.

    Called once for each registry. Names are treated as for writers.
    """
