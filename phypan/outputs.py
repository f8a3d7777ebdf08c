"""The calls behind the public API that write dumps and look at what was written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phypan import api, manager
from phypan.dump import Dump
from phypan.errors import InputError, os_errors
from phypan.rows import Rows
from phypan.sinks import Progress, no_progress

if TYPE_CHECKING:  # formats' declarations take time to import: that is done where it is needed
    from phypan.conversion.run import Converted


def convert(
    dump: Dump | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "elf",
    force: bool = False,
    dump_level: int | Sequence[int] = 0,
    flattened: bool = False,
    split: int = 1,
    seal_for: Sequence[str] = (),
    retries: int = 8,
    retry_wait: float = 1.0,
    report: Callable[[str], None] | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Converted:
    """Write `dump` to `target`, or to TARGET.1, TARGET.2, ... if it is split.

    target      "-" is standard output: a flattened dump, as through any pipe
    format      the name of a writer
    force       overwrite what is there
    dump_level  which kinds of pages to leave out, makedumpfile's -d (0 to 31). Of several the next
                is tried when there is no room at one
    flattened   in makedumpfile's flattened format
    split       how many files to write, each with a share of the pages
    seal_for    age public keys, or files of them: only their owners can read what is written, a
                flattened dump in an age file
    retries     how often in a row a place elsewhere is tried again, each time from the beginning
    retry_wait  seconds before the first time; doubled for each one after it, up to 60
    report      called with a line for people before each wait
    progress    called with (bytes done, bytes in all)
    options     the writer's own

    Until it is finished and durable a file is NAME.incomplete. Raises OutputError.
    """
    if not isinstance(dump, Dump):
        with api.open(dump) as opened:
            return convert(
                opened, target, format=format, force=force, dump_level=dump_level,
                flattened=flattened, split=split, seal_for=seal_for, retries=retries,
                retry_wait=retry_wait, report=report, progress=progress, **options,
            )  # fmt: skip
    from phypan.conversion import run
    from phypan.places.patience import Patience, silent

    return run.run(
        dump,
        manager.named(api.registry().writers, format, "format"),
        target,
        force=force,
        levels=(dump_level,) if isinstance(dump_level, int) else tuple(dump_level),
        flattened=flattened,
        split=split,
        seal_for=tuple(seal_for),
        patience=Patience(retries, retry_wait, report or silent),
        progress=progress,
        options=options,
    )


def join(
    paths: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    keys: Sequence[str | os.PathLike[str]] = (),
    force: bool = False,
    progress: Progress = no_progress,
) -> Converted:
    """Write the dump of a split set, whose files are `paths`, to one file `target`.

    Pages are taken as they are stored, with their checksums.
    """
    with api.open(*paths, keys=keys) as dump:
        return convert(
            dump, target, format="kdump", compress="keep", force=force, progress=progress
        )


def verify(dump: Dump, *, progress: Progress = no_progress) -> Rows:
    """All that is wrong with `dump`, down to each damaged page; no rows if nothing is.

    Where a file has phypan's checksums they are compared. Else everything is looked at that can
    be: headers, descriptors, bitmaps, compressed streams, segments that leave the file.
    """
    from phypan.conversion import checking

    return Rows("verify", checking.Finding, tuple(checking.findings(dump, progress)))


def repair(
    paths: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    keys: Sequence[str | os.PathLike[str]] = (),
    force: bool = False,
    progress: Progress = no_progress,
) -> Converted:
    """Write what is left of a damaged or truncated dump to `target`, in the same format.

    Damaged pages become holes with that reason, and the file is flagged as incomplete.

    paths  the file, or all files of a split set
    """
    from phypan.conversion import checking

    with api.open(*paths, keys=keys) as dump:
        damage = list(checking.damaged(dump, progress))
        dump.incomplete = dump.incomplete or bool(damage or checking.own_problems(dump))
        dump.memory = checking.without(dump, damage)
        options: dict[str, Any] = {"compress": "keep"} if dump.format == "kdump" else {}
        return convert(dump, target, format=dump.format, force=force, progress=progress, **options)


def redact(
    dump: Dump,
    target: str | os.PathLike[str],
    *,
    dump_level: int | None = None,
    rules: Sequence[str] = (),
    format: str = "kdump",
    force: bool = False,
    seal_for: Sequence[str] = (),
    progress: Progress = no_progress,
) -> Rows:
    """Write `dump` to `target` without users' pages and without secrets; what was left out.

    dump_level  which kinds of pages to leave out; None: cache, users' pages and free pages
    rules       names of kinds of secrets; none given: all that plugins offer

    Pages go whole. No claim is made that nothing is left: what no rule knows stays, and so do the
    registers. Raises Unsupported when the kernel does not tell which pages are users'.
    """
    from phypan import redaction

    shelf = api.registry().secrets
    chosen = {name: manager.named(shelf, name, "rule") for name in rules or shelf}
    level = redaction.LEVEL if dump_level is None else dump_level
    done = redaction.redacted(dump, chosen, level, progress)
    convert(done.dump, target, format=format, force=force, seal_for=seal_for, progress=progress)
    return Rows("redact", redaction.Redaction, done.report)


def estimate(dump: Dump, *, format: str = "elf", dump_level: int = 0, **options: Any) -> Rows:
    """What `convert` would leave out and write, with the size and the time that it would take.

    Nothing is written: a sample of the pages is compressed.
    """
    from phypan.conversion import reports, run

    writer = manager.named(api.registry().writers, format, "format")
    run.check_options(writer, options)
    rows = reports.estimate(dump, writer, dump_level, options)
    return Rows("estimate", reports.ReportRow, rows)


def estimate_levels(
    dump: Dump, target: str | os.PathLike[str] | None = None, *, compress: str = "zlib"
) -> Rows:
    """What `dump` would take at each dump level: rows with bytes, seconds, and whether it fits.

    target    where it is to go, on this machine; None: nothing is said of room
    compress  of a compressed dump, as for `convert`
    """
    from phypan.conversion import reports

    free = None
    if target is not None:
        folder = Path(target).absolute().parent
        with os_errors(InputError, folder):
            free = shutil.disk_usage(folder).free
    writer = manager.named(api.registry().writers, "kdump", "format")
    rows = reports.by_level(dump, writer, {"compress": compress}, free)
    return Rows("estimate", reports.LevelRow, rows)


def statistics(dump: Dump, done: Converted) -> Rows:
    """What a conversion of `dump` left out and wrote."""
    from phypan.conversion import reports

    return Rows("statistics", reports.ReportRow, reports.statistics(dump, done))
