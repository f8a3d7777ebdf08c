"""The calls behind the public API: find the plugin, call it."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast, overload

from phypan import manager
from phypan.answers import answer
from phypan.dump import Dump
from phypan.errors import InputError, PluginError, Unsupported, os_errors, plugin_errors
from phypan.hooks import Analysis, Input, Source, Writer
from phypan.manager import PluginInfo, Registry
from phypan.memory import MemoryStore
from phypan.rows import Rows
from phypan.stores import FileStore, Store, spooled

if TYPE_CHECKING:
    from phypan.platform.simulation import Simulation

_HEAD = 4096
_MAX_ENVELOPES = 8

_loaded: Registry | None = None


def registry() -> Registry:
    """The registry of this process, loaded at the first call."""
    global _loaded  # noqa: PLW0603 - one for each process, made when first asked for
    if _loaded is None:
        _loaded = Registry()
    return _loaded


def analyses() -> Mapping[str, Analysis]:
    """All analyses by name."""
    return registry().analyses


def writers() -> Mapping[str, Writer]:
    """All writers by name."""
    return registry().writers


def list_plugins() -> list[PluginInfo]:
    """All plugins, with what each offers or why it was left out."""
    return list(registry().plugins)


def open(
    path: str | os.PathLike[str],
    *others: str | os.PathLike[str],
    regions: Iterable[str | os.PathLike[str]] = (),
    source: str | None = None,
    cache: int = 64 << 20,
    hpt: str | os.PathLike[str] | None = None,
    symbols: Iterable[str | os.PathLike[str]] = (),
    force: bool = False,
    keys: Iterable[str | os.PathLike[str]] = (),
) -> Dump:
    """The Dump at `path`: a vmcore, compressed or not, a dump directory, a RAM image.

    path     "-" is standard input. What comes through a pipe is kept in a temporary file
    others   the other files of a split set, in any order
    regions  files that describe what the firmware preserved: device tree, raw property, text
    source   the name of a source, to choose it instead of the surest one
    cache    bytes of decompressed pages to keep in memory at the most
    hpt      an image of the hashed page table; or ADDRESS+SIZE, where it is in the dump's memory
    symbols  files with debuginfo: the vmlinux of the crashed kernel, its modules
    force    use a vmlinux of another build than the crashed one
    keys     files of secret keys, for what is sealed

    Raises PhypanError: InputError when it cannot be read or nobody knows it, BadRecord when it is
    damaged beyond use.
    """
    stores: list[Store] = []
    try:
        key_files = tuple(Path(key) for key in keys)
        given = replace(
            _input(path, stores, key_files),
            regions=tuple(Path(region) for region in regions),
            others=tuple(_unwrapped(_input(other, stores, key_files), stores) for other in others),
            cache=cache,
            hpt=None if hpt is None else Path(hpt),
        )
        given, dump = _opened(given, source, stores)
        dump.debuginfo, dump.force = tuple(map(Path, symbols)), force
        if given.hpt is not None:
            _add_hpt(dump, given.hpt)
    except BaseException:
        for store in stores:
            store.close()
        raise
    dump.stores = (*dump.stores, *stores)
    return dump


def _input(path: str | os.PathLike[str], stores: list[Store], keys: tuple[Path, ...]) -> Input:
    """What is at `path`; its store is added to `stores`, which the caller closes."""
    if os.fspath(path) == "-":
        store = spooled(sys.stdin.fileno(), "standard input")
    elif os.path.isdir(path):
        with os_errors(InputError, path):
            os.scandir(path).close()
        return Input(Path(path), None, keys=keys)
    elif _is_fifo(path):
        with os_errors(InputError, path), Path(path).open("rb") as pipe:
            store = spooled(pipe.fileno(), os.fspath(path))
    else:
        store = FileStore(path)
    stores.append(store)
    head = bytes(store.view(0, min(store.size, _HEAD)))
    return Input(Path(path), store, head, keys=keys)


def _is_fifo(path: str | os.PathLike[str]) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):  # FileStore says what is wrong
        return False


def _opened(given: Input, source: str | None, stores: list[Store]) -> tuple[Input, Dump]:
    """(what was in all envelopes, the Dump in it)."""
    for _ in range(_MAX_ENVELOPES):
        chosen = _source(given, source)
        if given.others and not (chosen.sets or chosen.envelope):
            raise InputError(
                f"a dump of kind {chosen.name} is one file, more were given", where=str(given.path)
            )
        with plugin_errors(chosen.name):
            opened = chosen.open(given)
        if isinstance(opened, Dump):
            opened.problems[:0] = given.problems
            return given, opened
        given, source = _inside(opened, chosen, stores), None
    raise InputError(f"more than {_MAX_ENVELOPES} envelopes", where=str(given.path))


def _unwrapped(given: Input, stores: list[Store]) -> Input:
    """What is in the envelopes that `given` may be in."""
    for _ in range(_MAX_ENVELOPES):
        chosen = _source(given, None)
        if not chosen.envelope:
            return given
        given = _inside(chosen.open(given), chosen, stores)
    raise InputError(f"more than {_MAX_ENVELOPES} envelopes", where=str(given.path))


def _source(given: Input, name: str | None) -> Source:
    if name is None:
        return manager.surest(registry().sources, given)
    return cast(Source, manager.named(registry().sources, name, "source"))


def _inside(opened: object, chosen: Source, stores: list[Store]) -> Input:
    if not isinstance(opened, Input):
        raise PluginError(f"it opened a {type(opened).__name__}", where=chosen.name)
    if opened.store is not None and opened.store not in stores:
        stores.append(opened.store)
    return opened


_IN_MEMORY = re.compile(r"(0x[0-9a-f]+|\d+)\+(0x[0-9a-f]+|\d+)", re.IGNORECASE)


def _add_hpt(dump: Dump, path: Path) -> None:
    """Give `dump` its hashed page table: a file's, or one in its own memory."""
    place = _IN_MEMORY.fullmatch(str(path))
    if place is not None and not path.exists():
        start, size = (int(number, 0) for number in place.groups())
        dump.hpt = MemoryStore(dump.memory, start, size)
    else:
        dump.hpt = FileStore(path)
        dump.stores = (*dump.stores, dump.hpt)


def guests() -> Mapping[str, Callable[..., Any]]:
    """What simulate() can crash: each guest's function, whose signature names its options."""
    from phypan.platform import qemu, simulation

    return {"synthetic": simulation.run, "qemu": qemu.simulate}


@overload
def simulate(
    directory: str | os.PathLike[str] | None = ...,
    *,
    guest: Literal["synthetic"] = ...,
    report: Callable[[str], None] | None = ...,
    **options: Any,
) -> Simulation: ...


@overload
def simulate(
    directory: str | os.PathLike[str] | None = ...,
    *,
    guest: str,
    report: Callable[[str], None] | None = ...,
    **options: Any,
) -> Simulation | None: ...


def simulate(
    directory: str | os.PathLike[str] | None = None,
    *,
    guest: str = "synthetic",
    report: Callable[[str], None] | None = None,
    **options: Any,
) -> Simulation | None:
    """A partition of the platform model that has crashed and booted again.

    directory  where to write what its second boot finds, as a directory that open() takes; None
               writes nothing, which a guest under QEMU cannot do without
    guest      what runs in it: "synthetic", a small Linux made up for tests, or "qemu", a real
               one under QEMU, of which the directory is all there is: the result is None
    report     called with a line of text, often, while a guest under QEMU runs
    options    the guest's own: see guests()
    """
    from phypan.platform import simulation

    run_guest = manager.named(guests(), guest, "guest")
    if guest == "qemu":
        if directory is None:
            raise Unsupported("a guest under QEMU needs a directory", hint="name one with -o")
        run_guest(directory, report=report, **options)
        return None
    done: Simulation = run_guest(**options)
    if directory is not None:
        simulation.save(done, directory, {"guest": guest, **options})
    return done


def mount(crashed: Simulation | str | os.PathLike[str], directory: str | os.PathLike[str]) -> None:
    """Show the second boot's files in `directory`, until that is unmounted: cat, dd, echo work.

    crashed  what simulate() returned; or a dump directory, as simulate() and tests with real
             kernels write it: its RAM is shown as a second boot finds it, and not changed

    Raises Unsupported when FUSE is not there, or the dump is none of fadump's.
    """
    from phypan.platform import mount as platform_mount
    from phypan.platform import taken
    from phypan.platform.simulation import Simulation

    boot = crashed.boot if isinstance(crashed, Simulation) else taken.second_boot(crashed)
    platform_mount.mount(boot, directory)


def run(dump: Dump, analysis: str, **options: Any) -> Rows:
    """The rows of an analysis by name, made while they are gone through.

    Raises Unsupported, with the reason, when the dump lacks what the analysis needs; PluginError,
    which says where in its code, when the analysis fails while the rows are gone through.
    """
    chosen: Analysis = manager.named(registry().analyses, analysis, "analysis")
    return answer(chosen, dump, options)


def render(rows: Rows, dump: Dump, *, renderer: str = "table", file: TextIO | None = None) -> None:
    """Show `rows` on `file`, or on standard output."""
    chosen = manager.named(registry().renderers, renderer, "renderer")
    with plugin_errors(chosen.name, but=OSError):  # of the file, which is the caller's
        chosen.render(rows, dump, file or sys.stdout)
