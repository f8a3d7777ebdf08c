"""Saving: a capture as the settings of the system want it, with what belongs beside the dump.

    PATH/HOST-DATE/vmcore            while it is not complete: vmcore.incomplete, vmcore.journal
                  /vmcore-dmesg.txt  the kernel's log
                  /triage.json       what happened, where drgn is installed
                  /vmcore.opalcore   on bare metal, the firmware's own memory

A capture that was stopped is gone on with, whatever its date was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phypan import api
from phypan.descriptors import write_file
from phypan.errors import OutputError, PhypanError, Problem, Unsupported, os_errors
from phypan.live import system as live
from phypan.live.system import NoDump
from phypan.rescue import opal_core
from phypan.rescue.capture import capture, journal_of
from phypan.rescue.journal import Journal
from phypan.rescue.plan import CapturePlan, plan_capture
from phypan.rescue.session import Captured
from phypan.rescue.settings import Settings
from phypan.rescue.under_way import unfinished_capture
from phypan.sinks import Progress, no_progress

VMCORE, DMESG, TRIAGE = "vmcore", "vmcore-dmesg.txt", "triage.json"


@dataclass(frozen=True)
class Saved:
    """What was done.

    captured  what the capture did
    beside    files that were written beside the dump
    problems  why others were not
    removed   folders of old dumps that went
    """

    captured: Captured
    beside: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()
    removed: tuple[Path, ...] = ()


def save(
    settings: Settings,
    *,
    root: str | os.PathLike[str] = "/",
    progress: Progress = no_progress,
) -> Saved:
    """Save the dump that waits in the system below `root`, or go on with it.

    Raises PhypanError: NoDump when none waits.
    """
    target = _target(settings, root)
    folder = None if settings.sink else Path(target).parent
    if folder is not None:
        with os_errors(OutputError, folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        done = capture(target, root=root, resume=True, progress=progress, **settings.options)
    except BaseException:
        if folder is not None and not any(folder.iterdir()):
            folder.rmdir()
        raise
    if folder is None or settings.seal_for:
        what, where = "no log or triage is written", "beside a dump that is elsewhere, or sealed"
        return Saved(done, problems=(Problem(what, where, "the dump has all that they are from"),))
    beside, problems = _beside(Path(target))
    return Saved(done, beside, problems, _removed(settings, folder))


def plan_saving(settings: Settings, *, root: str | os.PathLike[str] = "/") -> CapturePlan:
    """What `save` would do; nothing is written."""
    target = settings.path / _name() / VMCORE
    if settings.sink is not None:
        raise Unsupported("what goes elsewhere cannot be planned", where=settings.sink)
    place = settings.path
    while not place.is_dir():  # what is not there yet would be made
        place = place.parent
    options = {name: value for name, value in settings.options.items() if name != "seal_for"}
    return replace(plan_capture(place / VMCORE, root=root, **options), target=str(target))


def _name() -> str:
    """HOST-DATE: what is saved now, of this host."""
    return f"{_host()}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _host() -> str:
    """The name of this host, as fits a folder; a kernel that was told none says "(none)"."""
    name = socket.gethostname().split(".")[0]
    known = name if name != "(none)" else ""
    return re.sub(r"[^A-Za-z0-9.-]", "_", known) or "localhost"


def _target(settings: Settings, root: str | os.PathLike[str]) -> str:
    """Where the dump goes: to the capture that was begun, if one was."""
    if settings.sink is not None:
        sink = settings.sink.rstrip("/")
        return _begun_elsewhere(sink) or f"{sink}/{_name()}.{VMCORE}"
    begun = unfinished_capture(root)
    if begun is not None and begun.name == f"{VMCORE}.journal":
        return str(begun.with_name(VMCORE))
    found = sorted(settings.path.glob(f"{_host()}-*/{VMCORE}.journal"))
    if found:
        return str(found[-1].with_name(VMCORE))
    if live.status(root).mechanism is None:
        raise NoDump(Path(root))
    return str(settings.path / _name() / VMCORE)


def _begun_elsewhere(sink: str) -> str | None:
    """The target below `sink` of a capture that was begun, in this boot or in one before it."""
    for path in sorted(journal_of(f"{sink}/{VMCORE}").parent.glob("capture-*.journal")):
        with Journal(path) as opened:
            target = str(opened.records[0]["target"]) if opened.records else ""
        if target.startswith(f"{sink}/"):
            return target
    return None


# -- beside the dump ------------------------------------------------------------------------------


def _beside(vmcore: Path) -> tuple[tuple[Path, ...], tuple[Problem, ...]]:
    """(what was written beside the dump, why the rest was not)."""
    written, problems = [], []
    for name, make in ((DMESG, _dmesg), (TRIAGE, _triage)):
        path = vmcore.with_name(name)
        try:
            with api.open(vmcore) as dump:
                data = make(dump)
            write_file(path, data)
            written.append(path)
        except PhypanError as error:
            problems.append(Problem(str(error), str(path), "it is not written"))
        except (ImportError, ArithmeticError, LookupError, ValueError, OSError) as error:
            # of an analysis: the dump itself is safe, and that is what counts here
            what = f"{type(error).__name__}: {error}"
            problems.append(Problem(what, str(path), "it is not written"))
    return tuple(written), tuple(problems)


def _dmesg(dump: Any) -> bytes:
    rows = api.run(dump, "dmesg")
    lines = rows.text(rows) if rows.text else map(str, rows)
    return "".join(f"{line}\n" for line in lines).encode(errors="replace")


def _triage(dump: Any) -> bytes:
    import drgn  # noqa: F401 - an analysis of the log alone is in the log

    rows = api.run(dump, "triage")
    return json.dumps([vars(row) for row in rows], indent=1, default=str).encode() + b"\n"


# -- retention ------------------------------------------------------------------------------------

_OURS = {VMCORE, DMESG, TRIAGE, VMCORE + opal_core.SUFFIX}
_DATE = r"-\d{8}-\d{6}"


def _removed(
    settings: Settings, folder: Path, remove: Callable[[Path], None] = shutil.rmtree
) -> tuple[Path, ...]:
    """Folders of this host's dumps beyond `retention`, oldest first, which are removed.

    Only folders that `save` has made, with a dump in them that is complete; never `folder`.
    """
    if not settings.retention:
        return ()
    ours = re.compile(re.escape(_host()) + _DATE)
    found = sorted(
        place
        for place in settings.path.iterdir()
        if ours.fullmatch(place.name)
        and not place.is_symlink()
        and {path.name for path in place.iterdir()} <= _OURS
        and (place / VMCORE).exists()
        and place != folder
    )
    old = found[: max(0, len(found) - settings.retention + 1)]
    for place in old:
        with os_errors(OutputError, place):
            remove(place)
    return tuple(old)
