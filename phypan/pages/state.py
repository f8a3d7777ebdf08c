"""What a dump has of each page: one bit a page, for dumps of which pages were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from phypan.pages import bits
from phypan.pages.bits import Bits


class PageState(Enum):
    """What a dump has of a page."""

    PRESENT = "present"
    ZERO = "zero"  # present, and known to hold zeros without being stored
    EXCLUDED = "excluded"  # left out on purpose when the dump was written
    ABSENT = "absent"  # never part of it
    DAMAGED = "damaged"  # was part of it, and cannot be read


Reason = tuple[PageState, str]


@dataclass(frozen=True)
class PageMask:
    """Which pages of a memory are there, and why the others are not.

    page_size  in bytes
    kept       a bit for each page frame number (see pages.bits); behind its end no page is there
    reasons    (bits, state, why): the first that has the bit of a missing page says why
    otherwise  of a missing page that none of them has
    """

    page_size: int
    kept: Bits
    reasons: Sequence[tuple[Bits, PageState, str]] = ()
    otherwise: Reason = field(default=(PageState.ABSENT, "no part of the dump covers it"))

    def covers(self, address: int, size: int) -> bool:
        """Whether all pages of `size` bytes at physical `address` are there."""
        first = address // self.page_size
        last = (address + size - 1) // self.page_size
        if first == last:
            return bits.test(self.kept, first)
        return next(bits.runs(self.kept, first, last + 1), (0, 0, False))[1:] == (
            last + 1 - first,
            True,
        )

    def runs(self, start: int, end: int) -> Iterator[tuple[int, int, Reason | None]]:
        """(physical address, bytes, None or why it is missing) from `start` to `end`."""
        unit = self.page_size
        for first, count, there in bits.runs(self.kept, start // unit, -(-end // unit)):
            for run, length, reason in self._reasons(first, count, there):
                low, high = max(run * unit, start), min((run + length) * unit, end)
                yield low, high - low, reason

    def _reasons(
        self, first: int, count: int, there: bool, level: int = 0
    ) -> Iterator[tuple[int, int, Reason | None]]:
        if there:
            yield first, count, None
        elif level == len(self.reasons):
            yield first, count, self.otherwise
        else:
            plane, state, why = self.reasons[level]
            for run, length, value in bits.runs(plane, first, first + count):
                if value:
                    yield run, length, (state, why)
                else:
                    yield from self._reasons(run, length, False, level + 1)
