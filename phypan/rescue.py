"""Rescue: take the dump that waits, put it where it is safe, give memory back, lose nothing.

The order is always: bytes at the target and confirmed there, that in the journal and durable, then
the memory given back. So a capture may be stopped at any instant; the next one with `resume` reads
the journal, goes on behind what is certain, and the file becomes what it would have been.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from phypan import api, copier, live, manager, page_flags
from phypan.copier import Copier
from phypan.destination import is_local, journal_of, open_target
from phypan.dump import Dump
from phypan.durable import write_file
from phypan.errors import InputError, NotInDump, OutputError, PhypanError, Problem, Unsupported
from phypan.formats import ppc_notes
from phypan.formats.lost import Lost
from phypan.giving import Giver
from phypan.journal import Journal, Record
from phypan.live import LiveSystem
from phypan.livestore import LiveStore
from phypan.outline import Outline, outline
from phypan.page_flags import PageFlags
from phypan.places import PlaceError
from phypan.places.local import SUFFIX
from phypan.release_plan import Reservation
from phypan.sinks import Progress, no_progress

RUN = "/run/phypan"  # what is under way in this boot; PHYPAN_RUN for another folder
VERSION = 1  # of what is in the journal


@dataclass(frozen=True)
class Captured:
    """What a capture did.

    target    where the dump is
    size      bytes of the file
    lost      what could not be read, or not any more: file offset, bytes, reason
    released  bytes that the kernel was asked to take back
    first     seconds from the start until memory was first given back; None if none was
    problems  what is inconsistent or missing in the dump, or was not as it should be on the way
    """

    target: str
    size: int
    lost: Sequence[Lost] = ()
    released: int = 0
    first: float | None = None
    problems: Sequence[Problem] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing of what was to be saved is missing."""
        return not self.lost


@dataclass
class _Past:
    """What the journal tells of a capture.

    begin       its first record
    safe        file offset below which the file is certain to be there
    place       what the target said it takes to go on from there
    lost        what could not be read of what is safe
    complete    bytes of the file, once all of them had been put
    named       whether the file has its name
    boot        in which it went on last
    since_boot  records of that boot
    """

    begin: Record
    safe: int = 0
    place: Mapping[str, Any] | None = None
    lost: list[Lost] = field(default_factory=list)
    complete: int | None = None
    named: bool = False
    boot: str | None = None
    since_boot: list[Record] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[Record]) -> _Past:
        """Told by all records of a journal."""
        past = cls(records[0], boot=records[0]["boot"])
        for record in records[1:]:
            if "boot" in record:
                past.boot, past.since_boot = record["boot"], []
            past.since_boot.append(record)
            past.lost += [Lost(*entry) for entry in record.get("lost", ())]
            past.safe = record.get("safe", past.safe)
            past.place = record.get("place", past.place)
            past.complete = record.get("complete", past.complete)
            past.named = past.named or "named" in record
        return past

    def kept(self) -> list[Lost]:
        """What could not be read below `safe`."""
        cut = [lost._replace(size=min(lost.size, self.safe - lost.at)) for lost in self.lost]
        return [lost for lost in cut if lost.size > 0]


def capture(
    target: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "/",
    release: bool | None = None,
    resume: bool = False,
    force: bool = False,
    journal: str | os.PathLike[str] | None = None,
    retries: int = 8,
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
    retries  how often a place that fails is tried again before that is an error
    window   bytes after which what was written is made certain
    options  the ELF writer's own

    Raises PhypanError; the journal and the unfinished file stay, and `resume` goes on with them.
    """
    begin = time.monotonic()
    path = Path(journal) if journal is not None else journal_of(os.fspath(target))
    system = live.status(root)
    opened = _unfinished(path, resume=resume, force=force)
    if opened is None:
        opened = _begin(path, os.fspath(target), system, release, force, options)
    with opened:
        return _Session(opened, system, window, progress, begin).run(retries)


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
        what, hint = "no dump is waiting", "`phypan status` shows what there is"
        raise InputError(what, where=str(system.root), hint=hint)
    _check_marker(system)
    with api.open(system.root, source="live") as dump:
        memory = _memory_of(dump)
        memory.lock()
        record = _first_record(address, system, dump, memory, options)
    record["release"] = system.mechanism == "phyp" if release is None else release
    record["force"] = force
    with suppress(FileExistsError, PhypanError):
        path.parent.mkdir(parents=True, mode=0o700)
    journal = Journal(path, new=True)
    try:
        _check_target(record)
        journal.append(record)
    except BaseException:
        with journal:
            journal.remove()
        raise
    _set_marker(system, path)
    return journal


def _check_target(record: Record) -> None:
    """Make the unfinished file, so that what is in its way is told before anything is done."""
    open_target(record["target"], force=record["force"]).close()


def _memory_of(dump: Dump) -> LiveStore:
    """The store that all memory of a live dump lies in."""
    for extent in dump.memory.extents:
        if isinstance(extent.store, LiveStore):
            return extent.store
    raise InputError("there is no memory to save", where=dump.source)


def _first_record(
    address: str, system: LiveSystem, dump: Dump, memory: LiveStore, options: Mapping[str, Any]
) -> dict[str, Any]:
    writer = manager.named(api.writers(), "elf", "format")
    image = outline(lambda output: writer.write(dump, output, no_progress, **options), memory)
    held: Reservation | None = None
    flags: PageFlags | None = None
    problems = list(dump.problems)
    if system.mechanism == "phyp":
        held, odd = live.reservation(system, dump.kernel_dump, memory.size)
        problems += odd
    if held is not None:
        middle = held.area_start + held.area_size // 2
        flags = page_flags.calibrated(system.root, memory.size, middle)
    return {
        "capture": VERSION,
        "target": address,
        "boot": system.boot_id,
        "dump": _fingerprints(dump),
        "memory_size": memory.size,
        "outline": image.to_json(),
        "reservation": None if held is None else astuple(held),
        "page_flags": None if flags is None else (flags.page_size, flags.byte),
        "problems": [astuple(problem) for problem in problems],
    }


def _fingerprints(dump: Dump) -> list[str]:
    """What tells this crash from any other; either will do, for one page may be gone already.

    Every CPU's registers, as they were preserved; and a page of each MiB of low memory.
    """
    area = dump.raw.get(ppc_notes.NT_REGSAVE, b"")
    kernel = [(cpu.number, cpu.kernel.words) for cpu in dump.cpus if cpu.kernel is not None]
    registers = hashlib.sha256(area + repr(kernel).encode())
    low = hashlib.sha256()
    for address in range(_SAMPLE_EVERY // 2, _SAMPLED, _SAMPLE_EVERY):
        with suppress(NotInDump, InputError):
            low.update(dump.memory.read(address, 4096))
    return [registers.hexdigest(), low.hexdigest()]


_SAMPLED, _SAMPLE_EVERY = 256 << 20, 1 << 20  # bytes of low memory


class _Session:
    """One process's part in a capture."""

    def __init__(
        self,
        journal: Journal,
        system: LiveSystem,
        window: int,
        progress: Progress,
        begin: float,
    ) -> None:
        self._journal, self._system = journal, system
        self._window, self._progress, self._begin = window, progress, begin
        self._past = _Past.of(journal.records)
        told = self._past.begin
        if told.get("capture") != VERSION:
            raise Unsupported(f"version {told.get('capture')}", where=str(journal.path))
        self._outline = Outline.from_json(told["outline"])
        self._problems = [Problem(*problem) for problem in told["problems"]]
        self._memory = self._open_memory()
        self._giver = self._make_giver()

    def _open_memory(self) -> LiveStore | None:
        """The live memory, if it still is what the capture began with."""
        told, system = self._past.begin, self._system
        if system.mechanism is None or system.memory is None:
            return None
        if system.boot_id != self._past.boot:
            with api.open(system.root, source="live") as dump:
                if not set(_fingerprints(dump)) & set(told["dump"]):
                    return None  # it has crashed again
            self._journal.append({"boot": system.boot_id})
            self._past = _Past.of(self._journal.records)
        memory = LiveStore(system.memory, told["memory_size"])
        memory.lock()
        return memory

    def _make_giver(self) -> Giver:
        told = self._past.begin
        held = told["reservation"] and Reservation(*told["reservation"])
        flags = told["page_flags"] and PageFlags(
            self._system.root / "proc/kpageflags", *told["page_flags"]
        )
        giver = Giver(
            self._system,
            self._memory,
            self._journal,
            wanted=told["release"] and self._memory is not None,
            reservation=held,
            flags=flags,
        )
        giver.resume(self._past.since_boot)
        return giver

    def run(self, retries: int) -> Captured:
        """Go on until all is done; a place that fails is tried again, later and later."""
        tries = 0
        try:
            while True:
                before = self._past.safe
                try:
                    return self._attempt()
                except PlaceError:
                    self._past = _Past.of(self._journal.records)
                    tries = 1 if self._past.safe > before else tries + 1
                    if tries > retries:
                        raise
                    time.sleep(min(60.0, 0.5 * 2**tries))
        finally:
            if self._memory is not None:
                self._memory.close()

    def _attempt(self) -> Captured:
        past = self._past
        lost = past.lost
        if not self._is_named():
            lost = past.kept()
            self._make_file(lost)
            self._journal.append({"named": True})
        self._giver.safe(self._outline, self._outline.size)
        self._giver.everything()
        size = _Past.of(self._journal.records).complete or 0
        self._journal.remove()
        _remove_marker(self._system)
        first = self._giver.first
        return Captured(
            target=past.begin["target"],
            size=size,
            lost=lost,
            released=self._giver.asked,
            first=None if first is None else first - self._begin,
            problems=[*self._problems, *self._giver.problems],
        )

    def _is_named(self) -> bool:
        """Whether the file was finished; it may be that this was not noted any more."""
        past = self._past
        address = past.begin["target"]
        if past.named or past.complete is None or not is_local(address):
            return past.named
        path = Path(address)
        return path.exists() and not path.with_name(path.name + SUFFIX).exists()

    def _make_file(self, lost: list[Lost]) -> None:
        past, told = self._past, self._past.begin
        if self._memory is None and not past.safe:
            what, hint = "the dump is gone, and nothing of it was saved", "remove the journal"
            raise InputError(what, where=str(self._journal.path), hint=hint)
        target = open_target(
            told["target"],
            safe=past.safe,
            state=past.place,
            begins=self._outline.head,
            length=self._outline.size,
            force=told["force"],
        )
        try:
            worker = Copier(
                self._outline, self._memory, target, self._giver,
                at=past.safe, lost=lost, window=self._window,
            )  # fmt: skip
            size = worker.fill(self._progress)
            self._journal.append({"complete": size, "lost": worker.untold()})
            target.finish(size)
        finally:
            target.close()


# -- the capture that is under way in this boot -----------------------------------------------


def marker(root: str | os.PathLike[str] = "/") -> Path:
    """The file that names the journal of the capture that is under way in the system at `root`."""
    folder = Path(os.environ.get("PHYPAN_RUN", RUN))
    digest = hashlib.sha256(str(Path(root).resolve()).encode()).hexdigest()[:12]
    return folder / f"capture-{digest}.json"


def unfinished(root: str | os.PathLike[str] = "/") -> Path | None:
    """The journal of a capture that was begun in this boot and is not complete."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = Path(json.loads(marker(root).read_text())["journal"])
        return told if told.exists() else None
    return None


def _check_marker(system: LiveSystem) -> None:
    path = unfinished(system.root)
    if path is None:
        return
    with Journal(path) as journal:
        given = any("releasing" in record for record in journal.records)
    if given:
        raise OutputError(
            "another capture has begun to give memory back",
            where=str(path),
            hint="only that one can be gone on with: --resume, with its target",
        )


def _set_marker(system: LiveSystem, journal: Path) -> None:
    path = marker(system.root)
    with suppress(OSError, OutputError):  # it only helps to find the journal
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        write_file(path, json.dumps({"journal": str(journal.absolute())}).encode())


def _remove_marker(system: LiveSystem) -> None:
    with suppress(OSError):
        marker(system.root).unlink()
