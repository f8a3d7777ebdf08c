"""Capture: begin to save the dump that waits, or go on with what was stopped."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from phypan import api
from phypan.errors import OutputError, os_errors
from phypan.kernels import modes
from phypan.live import system as live
from phypan.live.system import LiveSystem, NoDump
from phypan.places import opening
from phypan.places.address import local_path, scheme_of
from phypan.places.patience import Patience, silent
from phypan.rescue import copier, under_way
from phypan.rescue import plans as plans_beside
from phypan.rescue.first_record import first_record, memory_of, releases_usually
from phypan.rescue.journal import Journal
from phypan.rescue.session import Captured, Session
from phypan.rescue.target import make_ready
from phypan.sealing.keys import recipients
from phypan.sinks import Progress, no_progress

STATE = "/var/lib/phypan"  # of captures to other machines; PHYPAN_STATE for another folder


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
    seal_for: Sequence[str] = (),
    retries: int = Patience.retries,
    retry_wait: float = Patience.wait,
    report: Callable[[str], None] = silent,
    progress: Progress = no_progress,
    before_release: Callable[[], object] | None = None,
    **options: Any,
) -> Captured:
    """Save the dump that waits in the system below `root`, and give its memory back.

    target      a path; a URL of ssh, sftp, s3, http, https, or of what else fsspec writes to; or
                "-", standard output. A place without offsets gets the flattened form
    release     whether to give memory back; None: as usual, that is for kernels of phyp dump, and
                not to a pipe, which confirms nothing
    resume      go on with a capture that was stopped, if there is one
    force       overwrite what is at the target
    journal     where the journal is to be
    verify      whether what was written is read back from the disk before it counts as safe
    window      bytes after which what was written is made certain
    seal_for    age public keys, or files of them: only their owners can read what is written
    retries     how often to try again in a row when a place does not answer
    retry_wait  seconds before the first of these; each is twice as long, up to 60
    report      called with a line for a person before each of them
    before_release  called when the dump is safe and its memory still there: with it nothing is
                given back before
    options     format, the name of a writer; dump_level, one or several; and what the writer takes:
                compress means a compressed dump. Of several levels the next is tried when there is
                no room at one, and memory is given back at the end only, as it is of a format that
                cannot be gone on with

    Raises PhypanError; the journal and the unfinished file stay, and `resume` goes on with them.
    """
    begin = time.monotonic()
    address = os.fspath(target) if scheme_of(target) else local_path(target)
    path = Path(journal) if journal is not None else journal_of(address)
    system = live.status(root)
    patience = Patience(retries, retry_wait, report)
    with modes.lean():  # the second boot has little memory
        opened = _unfinished(path, resume=resume, force=force)
        if opened is None:
            wishes = {"release": release, "force": force, "seal_for": recipients(seal_for)}
            opened = _begin(path, address, system, wishes, options, patience)
        with opened:
            return Session(
                opened, system, verify, window, progress, patience, begin, before_release
            ).run()


def journal_of(target: str | os.PathLike[str]) -> Path:
    """The journal of a capture to `target`: beside it, or in STATE if it is not on this machine."""
    if opening.is_here(os.fspath(target)):
        path = Path(local_path(target))
        return path.with_name(path.name + ".journal")
    folder = Path(os.environ.get("PHYPAN_STATE", STATE))
    with os_errors(OutputError, folder):
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
    digest = hashlib.sha256(os.fspath(target).encode()).hexdigest()[:12]
    return folder / f"capture-{digest}.journal"


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
        plans_beside.forget(path)
        journal.remove()
    return None


def _begin(
    path: Path,
    address: str,
    system: LiveSystem,
    wishes: Mapping[str, Any],
    options: Mapping[str, Any],
    patience: Patience,
) -> Journal:
    """A journal with its first record: all that it takes to make the file, but for memory."""
    if system.mechanism is None:
        raise NoDump(system.root)
    under_way.check(system)
    with api.open(system.root, source="live") as dump:
        memory = memory_of(dump)
        memory.lock()
        record, plans = first_record(address, system, dump, memory, options)
    release = wishes["release"]
    usual = releases_usually(system, address)
    record["release"] = usual if release is None else release
    record["force"] = wishes["force"]
    record["seal_for"] = [key.hex() for key in wishes["seal_for"]]
    journal = Journal(path, new=True)
    try:
        if record["convert"] is not None:
            sums = plans_beside.write(path, plans)
            record["convert"] = {**record["convert"], "sums": sums}
        journal.append(patience.call(lambda: make_ready(record)))
    except BaseException:
        with journal:
            plans_beside.forget(path)
            journal.remove()
        raise
    under_way.note(system, path)
    return journal
