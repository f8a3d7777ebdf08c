"""Conversion: a dump filtered, and written in a format to where it is to go."""

from __future__ import annotations

import errno
import inspect
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from phypan.conversion.destination import Destination
from phypan.dump import Dump
from phypan.errors import OutputError, Unsupported, plugin_errors
from phypan.hooks import Writer, Written
from phypan.places.address import PIPE, shown
from phypan.places.patience import Patience
from phypan.sinks import Output, Progress

_PATIENCE = Patience()


@dataclass(frozen=True)
class Converted:
    """What a conversion made; a path where one is wanted.

    paths       the files, in order; "-" is standard output, and an address that of another place
    written     what each of them holds
    excluded    pages that the filter left out, by their type
    dump_level  at which it did
    seconds     that all of it took
    """

    paths: tuple[Path, ...]
    written: tuple[Written, ...] = ()
    excluded: Mapping[str, int] = field(default_factory=dict)
    dump_level: int = 0
    seconds: float = 0.0

    @property
    def path(self) -> Path:
        """The file, or the first of several."""
        return self.paths[0]

    @property
    def complete(self) -> bool:
        """Whether everything that was to be written is there."""
        return all(written.complete for written in self.written)

    def __fspath__(self) -> str:
        return os.fspath(self.path)


def run(
    dump: Dump,
    writer: Writer,
    target: str | os.PathLike[str],
    *,
    force: bool,
    levels: Sequence[int],
    flattened: bool,
    split: int,
    seal_for: Sequence[str],
    patience: Patience = _PATIENCE,
    progress: Progress,
    options: Mapping[str, Any],
) -> Converted:
    """Write `dump` to `target`; where there is no room at one of `levels`, at the next."""
    check_options(writer, options)
    if split > 1 and (not writer.splits or os.fspath(target) == PIPE):
        raise Unsupported(f"{writer.name} to {os.fspath(target)} cannot be split")
    started = time.monotonic()
    destination = Destination(force, flattened, tuple(seal_for), patience)
    for index, level in enumerate(levels):
        chosen = dict(options)
        if index + 1 < len(levels):
            chosen.pop("keep_incomplete", None)
        chosen_dump, counts = filtered(dump, level, writer.merges)
        try:
            paths, written = _written(
                chosen_dump, writer, target, destination, split, progress, chosen
            )
        except OutputError as error:
            if not _no_space(error) or index + 1 == len(levels):
                raise
            continue
        seconds = time.monotonic() - started
        return Converted(paths, written, counts, level, seconds)
    raise Unsupported("no dump level")


def filtered(dump: Dump, level: int, shortest: int) -> tuple[Dump, Mapping[str, int]]:
    """(`dump` as the level leaves it, how many pages are left out, by the name of their type)."""
    if level == 0:
        return replace(dump, stores=()), {}
    from phypan.filtering import levels  # slow to import

    found = levels.filtered(dump, level, shortest=shortest)
    return found.dump, found.counts


def check_options(writer: Writer, options: Mapping[str, Any]) -> None:
    """Unsupported if `options` has one that the writer does not."""
    unknown = sorted(set(options) - options_of(writer))
    if unknown:
        raise Unsupported(f"the format {writer.name} has no option {', '.join(unknown)}")


def options_of(writer: Writer) -> set[str]:
    """Names of the options that a writer takes."""
    return set(inspect.signature(writer.write).parameters)


def _written(
    chosen: Dump,
    writer: Writer,
    target: str | os.PathLike[str],
    destination: Destination,
    split: int,
    progress: Progress,
    options: Mapping[str, Any],
) -> tuple[tuple[Path, ...], tuple[Written, ...]]:
    """(the files, what is in each of them)."""
    targets = [os.fspath(target)]
    if split > 1:
        targets = [f"{os.fspath(target)}.{number + 1}" for number in range(split)]
    results = []
    for number, place in enumerate(targets):
        part = {"part": number, "parts": split} if split > 1 else {}
        write = partial(_write, writer, chosen, progress, {**options, **part})
        written = destination.write(place, write)
        results.append(written or Written(0))
        if not results[-1].complete and results[-1].reason:
            targets = targets[: number + 1]
            break
    return tuple(Path(shown(place)) for place in targets), tuple(results)


def _write(
    writer: Writer, dump: Dump, progress: Progress, options: Mapping[str, Any], output: Output
) -> Written | None:
    with plugin_errors(writer.name):
        return writer.write(dump, output, progress, **options)


def _no_space(error: OutputError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC
