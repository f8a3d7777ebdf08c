"""Saving: a capture as the settings of the system want it, with what belongs beside the dump.

    PLACE/HOST-DATE/vmcore            while it is not complete: vmcore.incomplete, vmcore.journal
                   /vmcore-dmesg.txt  the kernel's log
                   /triage.json       what happened, where drgn is installed
                   /vmcore.opalcore   on bare metal, the firmware's own memory

A capture that was stopped is gone on with, whatever its date was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phypan import api
from phypan.descriptors import write_file
from phypan.errors import OutputError, PhypanError, Problem, os_errors
from phypan.live import system as live
from phypan.live.system import NoDump
from phypan.places import opening
from phypan.places.address import shown
from phypan.places.patience import Patience, silent
from phypan.places.shelves import LocalShelf
from phypan.rescue.begun import Begun
from phypan.rescue.beside import write_beside
from phypan.rescue.capture import capture, journal_of
from phypan.rescue.plan import CapturePlan, plan_capture
from phypan.rescue.retention import VMCORE, host, new_name, remove_old
from phypan.rescue.session import Captured
from phypan.rescue.settings import Settings
from phypan.rescue.under_way import unfinished_capture
from phypan.sinks import Progress, no_progress

_SHORT = 2  # retries for what is only beside the dump: memory may be waiting to be given back


@dataclass(frozen=True)
class Saved:
    """What was done.

    captured  what the capture did
    beside    files that were written beside the dump
    problems  why others were not, or old dumps did not go
    removed   folders of old dumps that went
    """

    captured: Captured
    beside: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    removed: tuple[str, ...] = ()


def save(
    settings: Settings,
    *,
    root: str | os.PathLike[str] = "/",
    report: Callable[[str], None] = silent,
    progress: Progress = no_progress,
) -> Saved:
    """Save the dump that waits in the system below `root`, or go on with it.

    report  called with a line for a person when a place is tried again

    Raises PhypanError: NoDump when none waits.
    """
    target, odd = _target(settings, root)
    options = {"root": root, "resume": True, "report": report, "progress": progress}
    saved = (_save_elsewhere if settings.sink else _save_here)(settings, target, options)
    removed, problems = _removed(settings, target)
    return replace(saved, removed=removed, problems=(*odd, *saved.problems, *problems))


def _save_here(settings: Settings, target: str, options: dict[str, Any]) -> Saved:
    """To a file on this machine, which is what the log is read from."""
    folder = Path(target).parent
    with os_errors(OutputError, folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        done = capture(target, **options, **settings.options)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    if settings.seal_for:
        return Saved(done, problems=(_nothing_beside("a dump that is sealed"),))

    def write(name: str, data: bytes) -> str:
        write_file(folder / name, data)
        return str(folder / name)

    return Saved(done, *write_beside(lambda: api.open(target), write))


def _save_elsewhere(settings: Settings, target: str, options: dict[str, Any]) -> Saved:
    """To another machine. The log is read from memory: that waits until it is written, too."""
    folder = target.rpartition("/")[0]
    if not journal_of(target).exists():
        Patience(report=options["report"]).call(lambda: opening.make_folder(folder))
    patience = Patience(_SHORT, report=options["report"])
    found: list[tuple[tuple[str, ...], tuple[Problem, ...]]] = []

    def write(name: str, data: bytes) -> str:
        patience.call(lambda: opening.put_whole(f"{folder}/{name}", data))
        return shown(f"{folder}/{name}")

    def tell() -> None:
        found.append(write_beside(lambda: api.open(options["root"], source="live"), write))

    if settings.seal_for:
        done = capture(target, **options, **settings.options)
        return Saved(done, problems=(_nothing_beside("a dump that is sealed"),))
    done = capture(target, **options, before_release=tell, **settings.options)
    if not found:
        return Saved(done, problems=(_nothing_beside("a dump that was gone from memory"),))
    return Saved(done, *found[0])


def _nothing_beside(dump: str) -> Problem:
    what, meaning = "no log or triage is written", "the dump has all that they are from"
    return Problem(what, f"beside {dump}", meaning)


def plan_saving(settings: Settings, *, root: str | os.PathLike[str] = "/") -> CapturePlan:
    """What `save` would do; nothing is written."""
    options = {name: value for name, value in settings.options.items() if name != "seal_for"}
    if settings.sink is not None:
        return plan_capture(f"{_sink(settings)}/{new_name()}/{VMCORE}", root=root, **options)
    target = settings.path / new_name() / VMCORE
    place = settings.path
    while not place.is_dir():  # what is not there yet would be made
        place = place.parent
    return replace(plan_capture(place / VMCORE, root=root, **options), target=str(target))


def _sink(settings: Settings) -> str:
    return (settings.sink or "").rstrip("/")


def _target(settings: Settings, root: str | os.PathLike[str]) -> tuple[str, list[Problem]]:
    """(where the dump goes: to the capture of it that was begun, if one was; what is odd there)."""
    system = live.status(root)
    place = _sink(settings) if settings.sink else str(settings.path)
    if settings.sink:
        journals = sorted(journal_of(f"{place}/{VMCORE}").parent.glob("capture-*.journal"))
    else:
        journals = sorted(settings.path.glob(f"{host()}-*/{VMCORE}.journal"))
        begun = unfinished_capture(root)
        if begun is not None and begun.name == f"{VMCORE}.journal" and begun not in journals:
            journals.append(begun)
    found = Begun(journals, system)
    target = found.target(below=place if settings.sink else "")
    if target is None and system.mechanism is None:
        raise NoDump(Path(root))
    return target or f"{place}/{new_name()}/{VMCORE}", found.problems


def _removed(settings: Settings, target: str) -> tuple[tuple[str, ...], tuple[Problem, ...]]:
    """(folders of old dumps that were removed, why none could be): the new dump is safe already."""
    if not settings.retention:
        return (), ()
    above, newest = target.rsplit("/", 2)[:2]
    try:
        shelf = opening.open_shelf(above) if settings.sink else LocalShelf(Path(above))
        try:
            names = remove_old(shelf, settings.retention, newest)
        finally:
            shelf.close()
    except PhypanError as error:
        problem = Problem(str(error), shown(above), "old dumps stay there, whatever retention says")
        return (), (problem,)
    return tuple(f"{shown(above)}/{name}" for name in names), ()
