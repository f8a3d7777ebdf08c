"""Giving back: memory to the running kernel, in the one order in which nothing is lost.

What is to be given back is in the journal, durably, before the kernel is told, and that it was told
is in the journal after it. Whoever finds the first without the second asks the page flags whether
the kernel has done it: to give back twice would spoil the kernel's sums, and no dump would be
registered anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from phypan.errors import OutputError, Problem
from phypan.formats.release_region import Pair
from phypan.live import release_plan
from phypan.live import system as live
from phypan.live.page_flags import PageFlags
from phypan.live.release_plan import Reservation
from phypan.live.store import LiveStore
from phypan.live.system import LiveSystem
from phypan.ranges import Ranges
from phypan.rescue.journal import Journal, Record
from phypan.rescue.outline import Outline

ALL = "all"  # what fadump gives back, which has no ranges


class Giver:
    """Gives back what is safe, or nothing at all.

    asked  bytes of the reservation that the kernel was asked to free, in this boot
    first  time.monotonic() of the first release, None before
    holds  whether nothing is to be given back yet, however safe it is
    """

    def __init__(
        self,
        system: LiveSystem,
        memory: LiveStore | None,
        journal: Journal,
        *,
        wanted: bool,
        reservation: Reservation | None = None,
        flags: PageFlags | None = None,
    ) -> None:
        self._system, self._memory, self._journal = system, memory, journal
        self._reservation, self._flags = reservation, flags
        self._wanted = wanted
        self._freed = False  # whether an earlier run had all given back, and then was stopped
        self.asked = 0
        self.holds = False
        self.problems: list[Problem] = []
        self.first: float | None = None

    @property
    def size(self) -> int:
        """Bytes that are held back; 0 where there are no ranges to tell."""
        return self._reservation.size if self._reservation else 0

    def resume(self, records: Sequence[Record]) -> None:
        """Take up what an earlier run in this boot has given back, and settle its last release."""
        self._freed = self._system.mechanism is None and any(
            record.get("releasing") == ALL for record in records
        )
        if not self._wanted:
            return
        last: Mapping[str, Any] | None = None
        for record in records:
            if "releasing" in record:
                last = record
                if record["releasing"] != ALL:
                    self._count(Pair(*record["releasing"]))
            elif "released" in record:
                last = None
        if last is None or last["releasing"] == ALL:
            return  # all at once can be asked for again
        pair = Pair(*last["releasing"])
        done = self._done(pair)
        if done is None:
            self.problems.append(
                Problem(
                    f"nobody knows whether {pair.length:#x} bytes at {pair.start:#x} were released",
                    str(self._system.root / "proc/kpageflags"),
                    "they may stay reserved, and no dump be registered, until the next boot",
                )
            )
        elif not done:
            live.give_back(self._system, pair)
        self._journal.append({"released": "unknown" if done is None else True})

    def _done(self, pair: Pair) -> bool | None:
        if self._flags is None or self._reservation is None:
            return None
        pages = release_plan.telling(pair, self._reservation, self._flags.page_size)
        reserved = self._flags.reserved(pages)
        return None if reserved is None else not reserved

    def _count(self, pair: Pair) -> None:
        self.asked += pair.length
        if self._memory is not None:  # a new set: others are reading the old one
            self._memory.gone = Ranges([*self._memory.gone, (pair.start, pair.end)])

    def safe(self, outline: Outline, at: int, also: Record | None = None) -> None:
        """Give back what may be, now that the file of `outline` is safe up to offset `at`.

        also  what else is to be in the journal before that, if anything
        """
        if self._wanted and self._reservation is not None and not self.holds:
            below = outline.unsaved(at, self._reservation.start)
            self._release(self._reservation.end if below is None else below, also or {})
        elif also:
            self._journal.append(also)

    def _release(self, safe: int, also: Record) -> None:
        assert self._reservation is not None
        while pair := release_plan.next_release(self._reservation, self.asked, safe):
            self._journal.append({**also, "releasing": [pair.start, pair.length]})
            also = {}
            self._count(pair)
            try:
                live.give_back(self._system, pair)
            except OutputError as error:
                self._refused(error)
                return
            self.first = self.first or time.monotonic()
            self._journal.append({"released": True})
        if also:
            self._journal.append(also)

    def _refused(self, error: OutputError) -> None:
        """The kernel does not take it: what is left stays reserved, and the dump is safe."""
        self._wanted = False
        meaning = "memory stays reserved until the next boot"
        self.problems.append(Problem(error.what, error.where or "kernel", meaning))
        self._journal.append({"released": False})

    def everything(self, *, opal_saved: bool) -> None:
        """Give back all at once, where the kernel does that: the file is complete and named.

        opal_saved  whether the firmware's own core may go as well
        """
        if not self._freed:
            if not self._wanted or self._system.mechanism != "fadump":
                return
            self._journal.append({"releasing": ALL})
            try:
                live.give_all_back(self._system, opal_saved=opal_saved)
            except OutputError as error:
                self._refused(error)
                return
            self.first = self.first or time.monotonic()
        self._register()
        self._journal.append({"released": True})

    def _register(self) -> None:
        """Have the next crash dumped as well: the kernel of fadump leaves that to us."""
        try:
            live.register(self._system)
        except OutputError as error:
            meaning = "all was given back, and no crash is dumped before the next boot"
            self.problems.append(Problem(error.what, error.where or "kernel", meaning))
