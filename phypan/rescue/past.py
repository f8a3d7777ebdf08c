"""Past: what the journal tells of a capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from phypan.formats.lost import Lost
from phypan.rescue.journal import Record


@dataclass
class Past:
    """What the journal tells of a capture.

    begin       its first record
    safe        file offset below which the file is certain to be there
    lost        what could not be read: all of it once the file is complete
    state       of the writer at `safe`, which then is a physical address (see compressed)
    tried       how many dump levels there was no room for
    place       what its place told (see phypan.places.protocols.Certain)
    complete    bytes of the file, once all of them had been put
    named       whether the file has its name
    boot        in which it went on last
    since_boot  records of that boot
    """

    begin: Record
    safe: int = 0
    lost: list[Lost] = field(default_factory=list)
    state: Mapping[str, Any] = field(default_factory=dict)
    tried: int = 0
    place: dict[str, Any] = field(default_factory=dict)
    complete: int | None = None
    named: bool = False
    boot: str | None = None
    since_boot: list[Record] = field(default_factory=list)

    @classmethod
    def of(cls, records: Sequence[Record]) -> Past:
        """Told by all records of a journal."""
        past = cls(records[0], boot=records[0]["boot"])
        past._add_place(records[0].get("place", {}))
        for record in records[1:]:
            if "boot" in record:
                past.boot, past.since_boot = record["boot"], []
            past.since_boot.append(record)
            lost = [Lost(*entry) for entry in record.get("lost", ())]
            past.lost = lost if "complete" in record else [*past.lost, *lost]
            past._add_place(record.get("place", {}))
            past.safe = record.get("safe", past.safe)
            past.state = record.get("state", past.state)
            if "tried" in record:
                past.tried, past.lost, past.place = record["tried"], [], {}
            past.complete = record.get("complete", past.complete)
            past.named = past.named or "named" in record
        return past

    def _add_place(self, told: Mapping[str, Any]) -> None:
        """What is new of `parts`, and in the place of all else what is told now."""
        parts = [*self.place.get("parts", ()), *told.get("parts", ())]
        self.place = {**self.place, **told, **({"parts": parts} if parts else {})}

    def kept(self) -> list[Lost]:
        """What could not be read below `safe`."""
        cut = [lost._replace(size=min(lost.size, self.safe - lost.at)) for lost in self.lost]
        return [lost for lost in cut if lost.size > 0]
