"""The calls behind the public API: find the plugin, call it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, overload

from phypan import manager
from phypan.dump import Dump
from phypan.errors import InputError, PluginError, Unsupported
from phypan.hooks import Analysis, Input, Writer
from phypan.manager import PluginInfo, Registry
from phypan.rows import Rows
from phypan.sinks import FileOutput, Progress, no_progress
from phypan.stores import FileStore, Store

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


def plugins() -> list[PluginInfo]:
    """All plugins, with what each offers or why it was left out."""
    return list(registry().plugins)


def open(
    path: str | os.PathLike[str],
    *,
    regions: Iterable[str | os.PathLike[str]] = (),
    source: str | None = None,
) -> Dump:
    """The Dump at `path`: a vmcore, a dump directory, a RAM image with `regions`.

    regions  files that describe what the firmware preserved: device tree, raw property, text
    source   the name of a source, to choose it instead of the surest one

    Raises PhypanError: InputError when it cannot be read or nobody knows it, BadRecord when it is
    damaged beyond use.
    """
    given = _input(Path(path), tuple(Path(region) for region in regions))
    stores: list[Store] = [given.store] if given.store else []
    try:
        for _ in range(_MAX_ENVELOPES):
            chosen = (
                manager.named(registry().sources, source, "source")
                if source
                else manager.surest(registry().sources, given)
            )
            opened = chosen.open(given)
            if isinstance(opened, Dump):
                opened.stores = (*opened.stores, *stores)
                return opened
            if not isinstance(opened, Input):
                raise PluginError(f"it opened a {type(opened).__name__}", where=chosen.name)
            given, source = opened, None
        raise InputError(f"more than {_MAX_ENVELOPES} envelopes", where=os.fspath(path))
    except BaseException:
        for store in stores:
            store.close()
        raise


def _input(path: Path, regions: tuple[Path, ...]) -> Input:
    if path.is_dir():
        return Input(path, None, b"", regions)
    store = FileStore(path)
    return Input(path, store, bytes(store.view(0, min(store.size, _HEAD))), regions)


def convert(
    dump: Dump | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "elf",
    force: bool = False,
    progress: Progress = no_progress,
    **options: Any,
) -> Path:
    """Write `dump` to `target`; the path of the finished file.

    format    the name of a writer
    force     overwrite what is there
    progress  called with (bytes done, bytes in all)
    options   the writer's own

    Until it is finished and durable the file is TARGET.incomplete. Raises OutputError.
    """
    if not isinstance(dump, Dump):
        with open(dump) as opened:
            return convert(opened, target, format=format, force=force, progress=progress, **options)
    writer = manager.named(registry().writers, format, "format")
    with FileOutput(target, force=force) as output:
        writer.write(dump, output, progress, **options)
    return output.path


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


def mount(simulation: Simulation, directory: str | os.PathLike[str]) -> None:
    """Show the second boot's files in `directory`, until that is unmounted: cat, dd, echo work.

    Raises Unsupported when FUSE is not there.
    """
    from phypan.platform import mount as platform_mount

    platform_mount.mount(simulation.boot, directory)


def run(dump: Dump, analysis: str, **options: Any) -> Rows:
    """The rows of an analysis by name, made while they are gone through.

    Raises Unsupported, with the reason, when the dump lacks what the analysis needs.
    """
    chosen: Analysis = manager.named(registry().analyses, analysis, "analysis")
    missing = [need for need in sorted(chosen.needs) if not getattr(dump, need, None)]
    if missing:
        raise Unsupported(
            f"{analysis} needs {', '.join(missing)}, which this dump does not have",
            where=dump.source,
            hint="`phypan info` lists what is missing and why",
        )
    return Rows(chosen.name, chosen.row, _only(chosen, chosen.run(dump, **options)))


def _only(analysis: Analysis, rows: Iterable[Any]) -> Iterator[Any]:
    for row in rows:
        if not isinstance(row, analysis.row):
            raise PluginError(
                f"it yielded {type(row).__name__}, not {analysis.row.__name__}",
                where=analysis.name,
            )
        yield row


def render(rows: Rows, dump: Dump, *, renderer: str = "table", file: TextIO | None = None) -> None:
    """Show `rows` on `file`, or on standard output."""
    chosen = manager.named(registry().renderers, renderer, "renderer")
    chosen.render(rows, dump, file or sys.stdout)
