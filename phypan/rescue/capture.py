"""Capture: begin to save the dump that waits, or go on with what was stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phypan import api
from phypan.errors import OutputError
from phypan.live import system as live
from phypan.live.system import LiveSystem, NoDump
from phypan.rescue import copier, under_way
from phypan.rescue.first_record import first_record, memory_of
from phypan.rescue.journal import Journal, Record
from phypan.rescue.local import LocalFile
from phypan.rescue.session import Captured, Session
from phypan.sinks import Progress, no_progress


def capture(
    target: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "/",
    release: bool | None = None,
    resume: bool = False,
    force: bool = False,
    journal: str | os.PathLike[str] | None = None,
    verify: bool = True,
    window: int = copier.WINDOW,
    progress: Progress = no_progress,
    **options: Any,
) -> Captured:
    """Save the dump that waits in the system below `root`, and give its memory back.

    target   a path
    release  whether to give memory back; None: as usual, that is for kernels of phyp dump
    resume   go on with a capture that was stopped, if there is one
    force    overwrite what is at the target
    journal  where the journal is to be
    verify   whether what was written is read back from the disk before it counts as safe
    window   bytes after which what was written is made certain
    options  the ELF writer's own

    Raises PhypanError; the journal and the unfinished file stay, and `resume` goes on with them.
    """
    begin = time.monotonic()
    path = Path(journal) if journal is not None else journal_of(target)
    system = live.status(root)
    opened = _unfinished(path, resume=resume, force=force)
    if opened is None:
        opened = _begin(path, os.fspath(target), system, release, force, options)
    with opened:
        return Session(opened, system, verify, window, progress, begin).run()


def journal_of(target: str | os.PathLike[str]) -> Path:
    """The journal of a capture to `target`: beside it."""
    path = Path(target)
    return path.with_name(path.name + ".journal")


def _unfinished(path: Path, *, resume: bool, force: bool) -> Journal | None:
    """The journal of a capture that was stopped; None if there is none."""
    if not path.exists():
        return None
    journal = Journal(path)
    if resume and journal.records:
        return journal
    with journal:
        given = any("releasing" in record for record in journal.records)
        if journal.records and (given or not force):
            raise OutputError(
                "a capture to this place was stopped",
                where=str(path),
                hint="go on with it: --resume"
                + ("" if given else "; nothing was given back, so --force may begin anew"),
            )
        journal.remove()
    return None


def _begin(
    path: Path,
    address: str,
    system: LiveSystem,
    release: bool | None,
    force: bool,
    options: Mapping[str, Any],
) -> Journal:
    """A journal with its first record: all that it takes to make the file, but for memory."""
    if system.mechanism is None:
        raise NoDump(system.root)
    under_way.check(system)
    with api.open(system.root, source="live") as dump:
        memory = memory_of(dump)
        memory.lock()
        record = first_record(address, system, dump, memory, options)
    record["release"] = system.mechanism == "phyp" if release is None else release
    record["force"] = force
    journal = Journal(path, new=True)
    try:
        _make_unfinished(record)
        journal.append(record)
    except BaseException:
        with journal:
            journal.remove()
        raise
    under_way.note(system, path)
    return journal


def _make_unfinished(record: Record) -> None:
    """Make the unfinished file, so that what is in its way is told before anything is done."""
    LocalFile(record["target"], force=record["force"]).close()
