"""Begun: captures to a place that were stopped, and which of them is of the dump that waits.

A capture may outlive its dump: the power went, and later the partition crashed again. Then the dump
that waits is what must not be lost, and what is left of the old one can stay as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from phypan import api
from phypan.errors import InputError, Problem
from phypan.live.system import LiveSystem
from phypan.rescue.first_record import fingerprints
from phypan.rescue.journal import Journal, Record


@dataclass
class Begun:
    """Captures whose journals are `journals`, the newest last, in a system.

    problems  what is odd about them
    """

    journals: Iterable[Path]
    system: LiveSystem

    def __post_init__(self) -> None:
        self.problems: list[Problem] = []

    def target(self, below: str = "") -> str | None:
        """The target, `below` which it is to lie, of the capture to go on with; None: of none.

        That is the one of the dump that waits; where none waits, the newest one.
        """
        found = [(path, record) for path, record in self._records() if _lies(record, below)]
        if self.system.mechanism is None:
            return str(found[-1][1]["target"]) if found else None
        chosen = [record for _, record in found if self._is_of_what_waits(record)][-1:]
        for path, record in found:
            if record not in chosen:
                what = "a capture was stopped here, and its dump waits no more"
                self.problems.append(Problem(what, str(path), "it stays as it is until none waits"))
        return str(chosen[0]["target"]) if chosen else None

    def _records(self) -> Iterable[tuple[Path, Record]]:
        """The first record of each journal; one without any is removed: nothing was begun."""
        for path in self.journals:
            try:
                with Journal(path) as opened:
                    if opened.records:
                        yield path, opened.records[0]
                    else:
                        opened.remove()
            except InputError as error:
                if self.system.mechanism is None:
                    raise
                meaning = "the dump that waits is saved to a new place"
                self.problems.append(Problem(error.what, error.where or str(path), meaning))

    def _is_of_what_waits(self, record: Record) -> bool:
        same_boot = self.system.boot_id is not None and record.get("boot") == self.system.boot_id
        return same_boot or not self._waiting.isdisjoint(record.get("dump", ()))

    @cached_property
    def _waiting(self) -> set[str]:
        """What tells the dump that waits from others."""
        with api.open(self.system.root, source="live") as dump:
            return set(fingerprints(dump))


def _lies(record: Record, below: str) -> bool:
    return str(record["target"]).startswith(f"{below}/" if below else "")
