"""Session: one process's part in a capture, from what the journal tells up to the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phypan import api
from phypan.errors import InputError, Problem, Unsupported
from phypan.formats.lost import Lost
from phypan.live.page_flags import PageFlags
from phypan.live.release_plan import Reservation
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem
from phypan.places.address import shown
from phypan.places.patience import Patience
from phypan.places.protocols import Target
from phypan.ranges import Ranges
from phypan.rescue import opal_core, plans, under_way
from phypan.rescue.compressed import Making
from phypan.rescue.copier import Copier
from phypan.rescue.first_record import VERSION, fingerprints
from phypan.rescue.giving import Giver
from phypan.rescue.journal import Journal
from phypan.rescue.outline import Outline
from phypan.rescue.past import Past
from phypan.rescue.target import forget_secret, is_named, open_target
from phypan.sinks import Progress


@dataclass(frozen=True)
class Captured:
    """What a capture did.

    target    where the dump is
    size      bytes of the file
    lost      what could not be read, or not any more: file offset, bytes, reason; of a compressed
              dump the physical address in the place of the first
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
    compressed: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing of what was to be saved is missing."""
        return not self.lost


class Session:
    """One process's part in a capture."""

    def __init__(
        self,
        journal: Journal,
        system: LiveSystem,
        verify: bool,
        window: int,
        progress: Progress,
        patience: Patience,
        begin: float,
        before_release: Callable[[], object] | None = None,
    ) -> None:
        self._journal, self._system, self._verify = journal, system, verify
        self._window, self._progress, self._begin = window, progress, begin
        self._patience = patience
        self._past = Past.of(journal.records)
        told = self._past.begin
        if told.get("capture") != VERSION:
            raise Unsupported(f"version {told.get('capture')}", where=str(journal.path))
        self._outline = Outline.from_json(told["outline"])
        self._problems = [Problem(*problem) for problem in told["problems"]]
        self._memory = self._open_memory()
        self._giver = self._make_giver()
        self._before_release = before_release

    def _open_memory(self) -> LiveStore | None:
        """The live memory, if it still is what the capture began with."""
        told, system = self._past.begin, self._system
        if system.mechanism is None or system.memory is None:
            return None
        if system.boot_id != self._past.boot:
            with api.open(system.root, source="live") as dump:
                if not set(fingerprints(dump)) & set(told["dump"]):
                    return None  # it has crashed again
            self._journal.append({"boot": system.boot_id})
            self._past = Past.of(self._journal.records)
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
        if self._memory is not None and held and flags:
            self._keep_off(self._memory, flags.given_back(held.start, held.end), held)
        return giver

    def _keep_off(self, memory: LiveStore, freed: Ranges, held: Reservation) -> None:
        """Never read what the kernel has freed, even if the journal does not know of it."""
        memory.gone = Ranges([*memory.gone, *freed])
        unsaved = self._outline.unsaved(self._past.safe, held.start)
        if unsaved is not None and any(end > unsaved for _, end in freed):
            what = "memory was given back that is not known to be saved"
            meaning = "it is lost, and no dump may be registered until the next boot"
            self._problems.append(Problem(what, str(self._journal.path), meaning))

    def run(self) -> Captured:
        """Go on until all is done."""
        self._giver.holds = self._before_release is not None
        try:
            self._patience.call(self._make_file, self._progress_made)
            if self._before_release is not None and self._memory is not None:
                self._before_release()
            self._giver.holds = False
            self._giver.safe(self._outline, self._outline.size)
            opal, problems = opal_core.save(self._system, self._past.begin)
            self._problems += problems
            self._giver.everything(opal_saved=opal is not None)
            return self._finished()
        finally:
            if self._memory is not None:
                self._memory.close()

    def _progress_made(self) -> tuple[int, int]:
        return self._past.safe, self._past.place.get("sent", 0)

    def _finished(self) -> Captured:
        forget_secret(self._journal.path)
        plans.forget(self._journal.path)
        self._journal.remove()
        under_way.forget(self._system)
        first = self._giver.first
        return Captured(
            target=shown(self._past.begin["target"]),
            size=self._past.complete or 0,
            lost=self._past.lost,
            released=self._giver.asked,
            first=None if first is None else first - self._begin,
            problems=[*self._problems, *self._giver.problems],
            compressed=bool(self._past.begin.get("convert")),
        )

    def _make_file(self) -> None:
        """Make the file, or what is left to be made of it, if that was not done."""
        self._past = past = Past.of(self._journal.records)
        if not is_named(past):
            if self._memory is None and not past.safe:
                what, hint = "the dump is gone, and nothing of it was saved", "remove the journal"
                raise InputError(what, where=str(self._journal.path), hint=hint)
            if past.begin.get("convert"):
                Making(
                    self._journal, self._system, self._outline, self._memory, self._giver,
                    self._verify, self._window, self._progress,
                ).run()  # fmt: skip
            else:
                target = open_target(past, self._outline, self._journal.path, self._verify)
                try:
                    self._fill(target, past)
                finally:
                    target.close()
        if not past.named:
            self._journal.append({"named": True})
        self._past = Past.of(self._journal.records)

    def _fill(self, target: Target, past: Past) -> None:
        lost = past.kept() if target.rewritable else past.lost
        worker = Copier(
            self._outline, self._memory, target, self._giver,
            at=past.safe, lost=lost, window=self._window,
        )  # fmt: skip
        size = worker.fill(self._progress)
        self._journal.append({"complete": size, "lost": worker.lost})
        target.finish(size)
